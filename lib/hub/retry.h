// When to try again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "lib/base/rng.h"
#include "lib/hub/http.h"

namespace qwb::hub {

// Statuses of a server that may answer better in a moment: 408, 425, 429, 500, 502, 503, 504.
bool is_passing(int status);

// Seconds that the answer asks to wait: Retry-After in seconds or as a date, or the t of a
// RateLimit field (IETF draft ratelimit-headers) of an exhausted limit. Nothing if it does not say,
// or says nonsense.
std::optional<double> requested_wait(const HttpHead& head);

// Growing waits: `base` seconds, doubled with every failure in a row up to eight times base, times
// a random factor in [0.5, 1.5), so that many clients of one server do not come back at the same
// instant. The first failure after some progress waits only a tenth of that: it was a broken
// connection, not a failing server.
class Backoff {
 public:
  Backoff(double base_seconds, uint64_t seed) : base_(base_seconds), rng_(seed) {}
  // failures >= 1: in a row, without any new byte in between. headway: the failed try brought new
  // bytes.
  double wait(int failures, bool headway);

 private:
  double base_;
  Rng rng_;
};

}  // namespace qwb::hub
