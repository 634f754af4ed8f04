#include "lib/serve/compare/departure.h"

#include <algorithm>
#include <cmath>

namespace qwb::serve {
namespace {

// What the version that drew `drawn` thought of `token` there.
Candidate candidate(const ScoredToken& drawn, int32_t token) {
  if (drawn.token == token && drawn.logprob) return {std::exp(*drawn.logprob), 1};
  for (const TokenChance& chance : drawn.top) {
    if (chance.token == token) return {std::exp(chance.logprob), 1};
  }
  return {std::nullopt, drawn.top.empty() ? 1 : std::exp(drawn.top.back().logprob)};
}

bool nearly_even(const Candidate& a, const Candidate& b) {
  if (!a.probability || !b.probability) return false;
  const double larger = std::max(*a.probability, *b.probability);
  return larger - std::min(*a.probability, *b.probability) <= kNearlyEven * larger;
}

}  // namespace

int64_t equal_tokens(const std::vector<ScoredToken>& base, const std::vector<ScoredToken>& other) {
  const auto same = [](const ScoredToken& a, const ScoredToken& b) { return a.token == b.token; };
  return std::ranges::mismatch(base, other, same).in1 - base.begin();
}

std::optional<Departure> first_departure(const std::vector<ScoredToken>& base,
                                         const std::vector<ScoredToken>& other) {
  const int64_t index = equal_tokens(base, other);
  if (index == std::ssize(base) || index == std::ssize(other)) return std::nullopt;
  const ScoredToken &mine = base[static_cast<size_t>(index)],
                    &its = other[static_cast<size_t>(index)];
  Departure departure{.index = index, .base_token = mine.token, .other_token = its.token};
  departure.base_of_base = candidate(mine, mine.token);
  departure.other_of_base = candidate(mine, its.token);
  departure.base_of_other = candidate(its, mine.token);
  departure.other_of_other = candidate(its, its.token);
  departure.nearly_even = nearly_even(departure.base_of_base, departure.other_of_base);
  return departure;
}

}  // namespace qwb::serve
