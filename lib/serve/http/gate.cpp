#include "lib/serve/http/gate.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cctype>
#include <charconv>

namespace qwb::serve {
namespace {

std::string small(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

bool contains(const std::vector<std::string>& list, std::string_view text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

void check_host(const GateSettings& settings, const RequestHead& head) {
  const auto name = host_name(head.first("host"));
  if (head.count("host") != 1 || !name) throw ApiError(400, "the request needs one Host");
  if (*name == "localhost" || *name == "127.0.0.1" || *name == "::1") return;
  // An address leads to the machine that has it, whatever a foreign name server says.
  if (*name == head.local_address || contains(settings.hosts, *name)) return;
  throw ApiError(403,
                 "the host '" + name->substr(0, 100) +
                     "' is not on the server's list (--allow-host NAME adds one)",
                 {}, "host_not_allowed");
}

// The page of this very server, or one that may ask.
void check_origin(const GateSettings& settings, const RequestHead& head, std::string& cors_origin) {
  const std::string_view origin = head.first("origin");
  if (head.count("origin") > 1) throw ApiError(400, "the request has several Origins");
  if (!origin.empty() && contains(settings.origins, origin)) {
    cors_origin = origin;
    return;
  }
  const std::string host(head.first("host"));
  const bool own = origin == "http://" + host || origin == "https://" + host;
  // Requests of images and the like come without an Origin, but tell that they are foreign.
  const std::string_view site = head.first("sec-fetch-site");
  const bool foreign = origin.empty() ? site == "cross-site" || site == "same-site" : !own;
  const bool visit = head.method == "GET" && head.first("sec-fetch-mode") == "navigate";
  if (!foreign || (origin.empty() && visit)) return;
  throw ApiError(403, "pages of another origin may not ask (--cors-origin allows one)", {},
                 "origin_not_allowed");
}

std::string_view key_of(const RequestHead& head) {
  const std::string_view value = head.first("authorization");
  constexpr std::string_view kScheme = "bearer ";
  if (value.size() > kScheme.size() && small(value.substr(0, kScheme.size())) == kScheme) {
    const std::string_view key = value.substr(kScheme.size());
    return key.substr(std::min(key.find_first_not_of(' '), key.size()));
  }
  return head.first("x-api-key");
}

// Compares with every key, whichever is the right one.
std::string check_key(const GateSettings& settings, const RequestHead& head) {
  if (settings.keys.empty()) return {};
  const KeyHash given = hash_of_key(key_of(head));
  std::string owner;
  for (size_t i = 0; i < settings.keys.size(); ++i) {
    if (CRYPTO_memcmp(given.data(), settings.keys[i].data(), given.size()) == 0)
      owner = "key " + std::to_string(i);
  }
  if (!owner.empty()) return owner;
  throw ApiError(401, "this server needs a key: Authorization: Bearer KEY", {}, "invalid_api_key");
}

void check_body(const GateSettings& settings, const RequestHead& head) {
  const std::string type = small(head.first("content-type"));
  const std::string kind = type.substr(0, type.find_first_of("; "));
  if (kind != "application/json")
    throw ApiError(415, "the body must come as Content-Type: application/json");
  const std::string_view encoding = head.first("content-encoding");
  if (!encoding.empty() && encoding != "identity")
    throw ApiError(415, "the body must come without a Content-Encoding");
  if (!head.chunked && !head.content_length)
    throw ApiError(411, "the request needs a Content-Length");
  if (head.content_length.value_or(0) > settings.body_limit)
    throw ApiError(413, fmt::format("the body has {} bytes, and may have {}", *head.content_length,
                                    settings.body_limit));
}

}  // namespace

int64_t RequestHead::count(std::string_view name) const {
  return std::count_if(fields.begin(), fields.end(),
                       [&](const auto& field) { return field.first == name; });
}

std::string_view RequestHead::first(std::string_view name) const {
  for (const auto& [key, value] : fields) {
    if (key == name) return value;
  }
  return {};
}

KeyHash hash_of_key(std::string_view key) {
  KeyHash hash{};
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), hash.data());
  return hash;
}

std::optional<std::string> host_name(std::string_view host) {
  std::string_view name = host, port;
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    name = host.substr(1, end - 1);
    port = host.substr(end + 1);
  } else if (const size_t colon = host.find(':'); colon != std::string_view::npos) {
    name = host.substr(0, colon);
    port = host.substr(colon);
  }
  const bool digits = std::all_of(port.begin() + (port.empty() ? 0 : 1), port.end(),
                                  [](unsigned char c) { return std::isdigit(c) != 0; });
  const bool word = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_' || c == ':';
  });
  if (name.empty() || name.size() > 255 || !word) return std::nullopt;
  if (!port.empty() && (port[0] != ':' || port.size() < 2 || port.size() > 6 || !digits))
    return std::nullopt;
  return small(name);
}

std::optional<std::string> decoded_path(std::string_view target) {
  std::string path;
  target = target.substr(0, target.find_first_of("?#"));
  if (!target.starts_with('/')) return std::nullopt;
  for (size_t at = 0; at < target.size(); ++at) {
    unsigned char c = static_cast<unsigned char>(target[at]);
    if (c == '%') {
      if (at + 2 >= target.size()) return std::nullopt;
      const char* const digits = target.data() + at + 1;
      const auto [end, error] = std::from_chars(digits, digits + 2, c, 16);
      if (error != std::errc() || end != digits + 2) return std::nullopt;
      at += 2;
    }
    if (c < 0x20 || c == 0x7f) return std::nullopt;
    path += static_cast<char>(c);
  }
  return path;
}

Admission admit(const GateSettings& settings, const RequestHead& head, std::string& cors_origin) {
  check_host(settings, head);
  check_origin(settings, head, cors_origin);
  Admission admission;
  admission.cors_origin = cors_origin;
  const auto path = decoded_path(head.target);
  // A browser asks without a key whether it may ask with one.
  if (head.method == "OPTIONS" && !cors_origin.empty()) return admission;
  const Routed routed = find_route(head.method, path.value_or(""));
  const bool open = routed.route != nullptr && !routed.route->needs_key;
  if (!open) admission.owner = check_key(settings, head);
  if (!path) throw ApiError(400, "the path is not valid");
  if (routed.allowed.empty())
    throw ApiError(404, "there is nothing at " + path->substr(0, 200), {}, "no_such_route");
  if (routed.route == nullptr)
    throw ApiError(405, fmt::format("{} takes {}", path->substr(0, 200), routed.allowed.front()));
  if (routed.route->method == "POST") {
    check_body(settings, head);
  } else if (head.chunked || head.content_length.value_or(0) > 0) {
    throw ApiError(400, "a GET has no body here");
  }
  admission.route = routed.route;
  admission.path = *path;
  admission.if_none_match = head.first("if-none-match");
  return admission;
}

}  // namespace qwb::serve
