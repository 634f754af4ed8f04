#include "lib/base/error.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <ios>
#include <new>
#include <nlohmann/json.hpp>
#include <system_error>

namespace qwb {
namespace {

std::string compose(const std::string& what, const std::string& where, const std::string& advice) {
  std::string text = where.empty() ? what : where + ": " + what;
  if (!advice.empty()) text += " (" + advice + ")";
  return text;
}

}  // namespace

Error::Error(ErrorKind kind, const std::string& what, const std::string& where,
             const std::string& advice)
    : std::runtime_error(compose(what, where, advice)), kind_(kind) {}

Error system_error(const std::string& action, const std::string& path, int errno_value) {
  std::string advice;
  if (errno_value == ENOSPC || errno_value == EDQUOT)
    advice = "free some space or choose another folder";
  if (errno_value == EACCES || errno_value == EPERM)
    advice = "check the permissions or choose another folder";
  if (errno_value == EROFS) advice = "the file system is read-only; choose another folder";
  const ErrorKind kind = errno_value == ENOENT ? ErrorKind::not_found : ErrorKind::failed;
  return Error(kind, action + ": " + std::strerror(errno_value), path, advice);
}

Error as_error(const std::exception& exception) {
  if (const auto* own = dynamic_cast<const Error*>(&exception)) return *own;
  if (const auto* files = dynamic_cast<const std::filesystem::filesystem_error*>(&exception))
    return system_error("cannot be used", files->path1().string(), files->code().value());
  if (dynamic_cast<const std::bad_alloc*>(&exception) != nullptr)
    return {ErrorKind::failed, "out of memory"};
  if (const auto* stream = dynamic_cast<const std::ios_base::failure*>(&exception))
    return {ErrorKind::failed, "cannot read or write: " + stream->code().message()};
  if (const auto* system = dynamic_cast<const std::system_error*>(&exception))
    return {ErrorKind::failed, "the system refused: " + system->code().message()};
  if (dynamic_cast<const nlohmann::json::exception*>(&exception) != nullptr)
    return {ErrorKind::failed,
            "a JSON value is missing or of another type than expected",
            {},
            "the file is damaged or of another version"};
  return {ErrorKind::failed, exception.what()};
}

}  // namespace qwb
