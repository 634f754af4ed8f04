#include "lib/hub/url.h"

#include <curl/curl.h>

#include <cctype>
#include <memory>

#include "lib/base/error.h"

namespace qwb::hub {
namespace {

using Handle = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

std::string part(const Handle& handle, CURLUPart which, unsigned flags = 0) {
  char* value = nullptr;
  if (curl_url_get(handle.get(), which, &value, flags) != CURLUE_OK) return {};
  const std::unique_ptr<char, decltype(&curl_free)> owner(value, &curl_free);
  return value;
}

// The printable part of a text that is no URL: it came from a server.
std::string printable(const std::string& text) {
  std::string shown;
  for (const char c : text.substr(0, text.find_first_of("?#"))) {
    if (shown.size() >= 200) break;
    shown += c >= 32 && c < 127 ? c : '?';
  }
  return shown;
}

}  // namespace

Url Url::parse_at(const Url* base, const std::string& text) {
  const Handle handle(curl_url(), &curl_url_cleanup);
  const bool based = base == nullptr ||
                     curl_url_set(handle.get(), CURLUPART_URL, base->text_.c_str(), 0) == CURLUE_OK;
  if (text.find('\0') != std::string::npos || !based ||
      curl_url_set(handle.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK)
    throw Error(ErrorKind::failed, "not an http or https URL: '" + printable(text) + "'");
  Url url;
  url.scheme_ = part(handle, CURLUPART_SCHEME);
  url.host_ = part(handle, CURLUPART_HOST);
  url.port_ = part(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  for (char& c : url.host_) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (url.scheme_ != "http" && url.scheme_ != "https")
    throw Error(ErrorKind::failed, "not an http or https URL: '" + printable(text) + "'");
  if (!part(handle, CURLUPART_USER).empty() || !part(handle, CURLUPART_PASSWORD).empty())
    throw Error(ErrorKind::failed, "a URL with a user name or password is not used", url.host_);
  curl_url_set(handle.get(), CURLUPART_FRAGMENT, nullptr, 0);
  url.text_ = part(handle, CURLUPART_URL);
  return url;
}

Url Url::parse(const std::string& text) {
  // Without the scheme curl would guess one.
  if (text.find("://") == std::string::npos)
    throw Error(ErrorKind::failed, "not an http or https URL: '" + printable(text) + "'");
  return parse_at(nullptr, text);
}

Url Url::resolve(const std::string& location) const {
  return parse_at(this, location);
}

std::string Url::shown() const {
  return printable(text_);
}

std::string percent_encode(const std::string& text, bool keep_slash) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain =
        (byte < 128 && std::isalnum(byte) != 0) || c == '-' || c == '.' || c == '_' || c == '~';
    if (plain || (keep_slash && c == '/')) {
      result += c;
    } else {
      result += '%';
      result += kHex[byte >> 4];
      result += kHex[byte & 15];
    }
  }
  return result;
}

}  // namespace qwb::hub
