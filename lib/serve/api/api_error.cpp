#include "lib/serve/api/api_error.h"

namespace qwb::serve {
namespace {

const char* type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 500:
      return "server_error";
    case 503:
      return "unavailable_error";
    default:
      return "invalid_request_error";
  }
}

}  // namespace

Json ApiError::json() const {
  const auto or_null = [](const std::string& text) {
    return text.empty() ? Json(nullptr) : Json(text);
  };
  Json error = {{"message", message_},
                {"type", type_of(status_)},
                {"param", or_null(param_)},
                {"code", or_null(code_)}};
  for (const auto& [key, value] : more_.items()) error[key] = value;
  return {{"error", error}};
}

ApiError api_error(const Error& error) {
  if (error.kind() == ErrorKind::usage) return {400, error.what()};
  if (error.kind() == ErrorKind::interrupted)
    return {503, "the answer was stopped: the server is shutting down", {}, "stopped"};
  return {500, "the model could not go on; the server's log tells why"};
}

}  // namespace qwb::serve
