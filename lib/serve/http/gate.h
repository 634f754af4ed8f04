// Who may ask: checked before a request is routed, and before its body is read.
//
// A page on the web can make a browser on this machine send requests here. Against names that lead
// here (DNS rebinding) stands the exact list of hosts; against requests from foreign pages the
// Origin, which browsers send with every POST; and no page may read an answer unless its origin is
// on the list.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/serve/api/api_error.h"
#include "lib/serve/api/routes.h"

namespace qwb::serve {

struct RequestHead {
  std::string method, target;                               // the target as it came
  std::vector<std::pair<std::string, std::string>> fields;  // names in small letters
  std::string local_address;  // that the connection came to: "127.0.0.1", "::1"
  bool chunked = false;
  std::optional<uint64_t> content_length;

  // How often a field is there, and the first of it.
  int64_t count(std::string_view name) const;
  std::string_view first(std::string_view name) const;
};

// SHA-256 of a key: compared instead of it, so that the time tells nothing of either.
using KeyHash = std::array<unsigned char, 32>;
KeyHash hash_of_key(std::string_view key);

struct GateSettings {
  std::vector<std::string> hosts;    // beside localhost, 127.0.0.1 and ::1; names in small letters
  std::vector<std::string> origins;  // foreign pages that may ask: "https://example.org"
  std::vector<KeyHash> keys;         // none: nobody needs one
  uint64_t body_limit = 4 << 20;     // bytes
};

struct Admission {
  const Route* route = nullptr;  // null: a preflight of the browser's, which needs no key
  std::string path;              // decoded
  std::string owner;             // which key it came with; empty without keys
  std::string if_none_match;     // what the caller has already
  std::string cors_origin;       // may read the answer; empty: no other page may
};

// Throws ApiError: 403 for a host or an origin that is not on the list, 401 without a key that is,
// 400, 404, 405, 411, 413, 415 for what no route takes. Keys come before routes: without one nobody
// learns which there are. `cors_origin` is set before anything that comes after the Origin fails.
Admission admit(const GateSettings& settings, const RequestHead& head, std::string& cors_origin);

// The name of a Host field without its port, in small letters; none if it is no host.
std::optional<std::string> host_name(std::string_view host);
// Without the query, percent-decoded; none for an encoding of nothing or of a control character.
std::optional<std::string> decoded_path(std::string_view target);

}  // namespace qwb::serve
