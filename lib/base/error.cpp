#include "lib/base/error.h"

#include <cerrno>
#include <cstring>

namespace qwb {
namespace {

std::string compose(const std::string& what, const std::string& where, const std::string& advice) {
  std::string text = where.empty() ? what : where + ": " + what;
  if (!advice.empty()) text += " (" + advice + ")";
  return text;
}

}  // namespace

Error::Error(ErrorKind kind, const std::string& what, const std::string& where, const std::string& advice)
    : std::runtime_error(compose(what, where, advice)), kind_(kind) {}

Error system_error(const std::string& action, const std::string& path, int errno_value) {
  std::string advice;
  if (errno_value == ENOSPC || errno_value == EDQUOT) advice = "free some space or choose another folder";
  if (errno_value == EACCES || errno_value == EPERM)
    advice = "check the permissions or choose another folder";
  if (errno_value == EROFS) advice = "the file system is read-only; choose another folder";
  const ErrorKind kind = errno_value == ENOENT ? ErrorKind::not_found : ErrorKind::failed;
  return Error(kind, action + ": " + std::strerror(errno_value), path, advice);
}

}  // namespace qwb
