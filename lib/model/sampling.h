// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/base/rng.h"

namespace qwb {

// Applied in this order: repetition penalty, frequency and presence penalty, temperature, top-k,
// top-p, min-p (as transformers' logits processors do, and with OpenAI's two where vLLM has them).
struct SamplingSettings {
  double temperature = 0;  // 0: the largest logit (greedy; the lowest id wins a tie)
  int64_t top_k = 0;       // keep the k largest; 0 = all
  double top_p = 1;  // keep the smallest set of largest probabilities whose sum reaches p; 1 = all
  double min_p = 0;  // keep tokens with at least p times the largest probability; 0 = all
  double repetition_penalty = 1;  // logits of tokens seen before: divided when positive, multiplied
                                  // when negative; 1 = off (CTRL, arXiv 1909.05858)
  double frequency_penalty = 0;   // taken from a token's logit for every time that it was made
  double presence_penalty = 0;    // taken once if it was made at all
  uint64_t seed = 0;
};

// Throws usage for a value out of range.
void check_sampling(const SamplingSettings& settings);

class Sampler {
 public:
  explicit Sampler(const SamplingSettings& settings);
  // `seen`: the tokens of the sequence so far; `made`: those of them that are no prompt, for the
  // frequency and presence penalties. Throws `failed` if a logit is NaN.
  int32_t next(std::span<const float> logits, std::span<const int32_t> seen,
               std::span<const int32_t> made = {});
  // The probabilities that next() draws from, by token: for tests and for showing them.
  std::vector<double> distribution(std::span<const float> logits, std::span<const int32_t> seen,
                                   std::span<const int32_t> made = {}) const;

 private:
  SamplingSettings settings_;
  Rng rng_;
};

}  // namespace qwb
