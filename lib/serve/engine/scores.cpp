#include "lib/serve/engine/scores.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/error.h"

namespace qwb::serve {
namespace {

double log_of_sum(std::span<const float> logits) {
  double largest = -INFINITY;
  for (const float logit : logits) {
    if (std::isnan(logit)) throw Error(ErrorKind::failed, "a logit is NaN");
    largest = std::max(largest, static_cast<double>(logit));
  }
  if (!std::isfinite(largest)) throw Error(ErrorKind::failed, "the largest logit is not finite");
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum);
}

}  // namespace

ScoredToken scored_token(std::span<const float> logits, int32_t token, int64_t top) {
  const double norm = log_of_sum(logits);
  const auto logprob = [&](int32_t id) {
    return static_cast<double>(logits[static_cast<size_t>(id)]) - norm;
  };
  ScoredToken scored{token, logprob(token)};
  std::vector<int32_t> ids(top > 0 ? logits.size() : 0);
  std::iota(ids.begin(), ids.end(), 0);
  const auto count = std::min(top, std::ssize(ids));
  std::partial_sort(ids.begin(), ids.begin() + count, ids.end(), [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  for (int64_t i = 0; i < count; ++i) {
    const int32_t id = ids[static_cast<size_t>(i)];
    scored.top.push_back({id, logprob(id)});
  }
  return scored;
}

}  // namespace qwb::serve
