// Where the greedy answer of one version leaves that of another.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/serve/engine/job.h"

namespace qwb::serve {

// What a version thought of a token at the place of a departure.
struct Candidate {
  // Of the logits that the version's own answer was drawn from; none: not among its kDepartureTop
  // likeliest, and so less than `below`.
  std::optional<double> probability;
  double below = 1;
};

// Alternatives that are known of every token of a greedy answer.
inline constexpr int64_t kDepartureTop = 20;
// Two candidates whose probabilities are within this share of each other: rounding of any kind
// could have turned them round.
inline constexpr double kNearlyEven = 0.1;

struct Departure {
  int64_t index = 0;  // of the token, from 0
  int32_t base_token = 0, other_token = 0;
  // Of both candidates, by the base and by the version that departs.
  Candidate base_of_base = {}, other_of_base = {}, base_of_other = {}, other_of_other = {};
  bool nearly_even = false;  // by the base
};

// Tokens that both answers begin with.
int64_t equal_tokens(const std::vector<ScoredToken>& base, const std::vector<ScoredToken>& other);
// The first token that differs, with the ends of texts among the tokens; none where one answer is
// the beginning of the other. The tokens were scored with kDepartureTop alternatives.
std::optional<Departure> first_departure(const std::vector<ScoredToken>& base,
                                         const std::vector<ScoredToken>& other);

}  // namespace qwb::serve
