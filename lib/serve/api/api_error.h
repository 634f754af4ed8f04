// An answer that is an error, in the shape that OpenAI's clients read.
#pragma once

#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/json.h"

namespace qwb::serve {

class ApiError : public std::exception {
 public:
  // type: "invalid_request_error", ...; made from the status. param: the field to blame.
  ApiError(int status, std::string message, std::string param = {}, std::string code = {})
      : status_(status),
        message_(std::move(message)),
        param_(std::move(param)),
        code_(std::move(code)) {}

  const char* what() const noexcept override { return message_.c_str(); }
  int status() const { return status_; }
  const std::string& code() const { return code_; }
  // Members beside message, type, param and code.
  ApiError& with(Json more) {
    more_ = std::move(more);
    return *this;
  }
  // {"error": {"message", "type", "param", "code", ...}}
  Json json() const;
  // Seconds after which to ask again; 0: it is not worth it.
  int retry_after() const { return status_ == 429 || status_ == 503 ? 1 : 0; }

 private:
  int status_;
  std::string message_, param_, code_;
  Json more_ = Json::object();
};

// 400 with the words of a `usage` error; 500 that tells nothing of the machine for every other.
ApiError api_error(const Error& error);

}  // namespace qwb::serve
