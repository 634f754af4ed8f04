// One exception type for the whole project. Libraries throw it and never print or exit; the tools
// turn the kind into an exit code and print what() as one line.
#pragma once

#include <exception>
#include <stdexcept>
#include <string>

namespace qwb {

// The values are the exit codes of the tools.
enum class ErrorKind {
  failed = 1,        // the work could not be done
  usage = 2,         // the request makes no sense
  not_found = 3,     // a file, model, data set or cache object is absent, or the network is off
  verification = 4,  // stored bytes are not what they should be
  unsupported = 5,   // a format, architecture or machine that this build cannot handle
  quality_gate = 6,  // a measured value is beyond the limit the user set
  interrupted = 130,
};

class Error : public std::runtime_error {
 public:
  // what: what was wrong. where: file, tensor or byte position (may be empty). advice: what the
  // user can do (may be empty).
  Error(ErrorKind kind, const std::string& what, const std::string& where = {},
        const std::string& advice = {});

  ErrorKind kind() const { return kind_; }
  // The process exit code that stands for this error.
  int exit_code() const { return static_cast<int>(kind_); }

 private:
  ErrorKind kind_;
};

// An Error of kind `failed` (or `not_found` for ENOENT) that spells out errno, with advice for
// ENOSPC, EACCES and EROFS.
Error system_error(const std::string& action, const std::string& path, int errno_value);

// Converts any exception to an Error of this project: a library's own texts ("filesystem error:
// cannot create directories") never reach the user.
Error as_error(const std::exception& exception);

}  // namespace qwb
