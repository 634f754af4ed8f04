// Bodies of requests: strict JSON of bounded depth and width.
#pragma once

#include <string_view>

#include "lib/base/json.h"

namespace qwb::serve {

// An object. Throws ApiError 400 for what is none, for numbers that no double holds, for duplicate
// keys, and for more than kMostKeys keys in an object (looking one up takes as many comparisons).
Json parse_request(std::string_view body);

inline constexpr int kDeepestRequest = 64;
inline constexpr int kMostKeys = 1000;
inline constexpr int kMostValues = 1'000'000;

}  // namespace qwb::serve
