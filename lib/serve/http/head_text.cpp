#include "lib/serve/http/head_text.h"

#include <fmt/format.h>

namespace qwb::serve {
namespace {

const char* reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    default:
      return "Internal Server Error";
  }
}

}  // namespace

std::string head_text(const AnswerHeadText& head) {
  std::string text = fmt::format("HTTP/1.1 {} {}\r\n", head.status, reason_of(head.status));
  const auto add = [&](std::string_view name, std::string_view value) {
    text.append(name).append(": ").append(value).append("\r\n");
  };
  if (!head.type.empty()) add("Content-Type", head.type);
  if (head.length) add("Content-Length", std::to_string(*head.length));
  if (head.chunked) add("Transfer-Encoding", "chunked");
  add("Connection", head.keep_alive ? "keep-alive" : "close");
  const std::string_view cache = head.cache.empty() ? "no-store" : std::string_view(head.cache);
  add("Cache-Control", head.length ? cache : "no-cache");
  if (!head.length) add("X-Accel-Buffering", "no");
  add("X-Content-Type-Options", "nosniff");
  add("Referrer-Policy", "no-referrer");
  add("X-Request-Id", head.request_id);
  if (head.cors_origin.empty()) {
    add("Cross-Origin-Resource-Policy", "same-origin");
  } else {
    add("Access-Control-Allow-Origin", head.cors_origin);
    add("Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
    add("Vary", "Origin");
  }
  for (const auto& [name, value] : head.more) add(name, value);
  return text + "\r\n";
}

std::string chunk_text(std::string_view data) {
  return fmt::format("{:x}\r\n{}\r\n", data.size(), data);
}

}  // namespace qwb::serve
