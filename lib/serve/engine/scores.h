// What a model thinks of a token: logprobs out of logits.
#pragma once

#include <cstdint>
#include <span>

#include "lib/serve/engine/job.h"

namespace qwb::serve {

// `token` with its logprob and the `top` likeliest tokens (ties: the lower id first), of the
// softmax of `logits` in f64. Throws `failed` where a logit is NaN or the largest is not finite.
ScoredToken scored_token(std::span<const float> logits, int32_t token, int64_t top);

}  // namespace qwb::serve
