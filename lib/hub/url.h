// http and https URLs: where a redirect leads, and whether two of them go to the same server.
#pragma once

#include <string>

namespace qwb::hub {

class Url {
 public:
  Url() = default;
  // Throws `failed` for anything but an absolute http(s) URL without user name or password.
  static Url parse(const std::string& text);
  // Resolves a Location header or a link found at this URL.
  Url resolve(const std::string& location) const;

  const std::string& text() const { return text_; }
  bool empty() const { return text_.empty(); }
  bool secure() const { return scheme_ == "https"; }
  // Same scheme, host and port: only there does a token go.
  bool same_origin(const Url& other) const {
    return scheme_ == other.scheme_ && host_ == other.host_ && port_ == other.port_;
  }
  const std::string& host() const { return host_; }
  // For messages and logs: without the query, in which signed URLs carry their signature.
  std::string shown() const;

 private:
  static Url parse_at(const Url* base, const std::string& text);
  std::string text_, scheme_, host_, port_;
};

// Percent-encodes everything but unreserved characters (RFC 3986), and '/' if keep_slash.
std::string percent_encode(const std::string& text, bool keep_slash);

}  // namespace qwb::hub
