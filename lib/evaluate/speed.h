// How fast a model runs. Fixed pseudo-random tokens, other ones in every repetition; no tokenization and no
// sampling in the times.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lib/base/progress.h"
#include "lib/model/model.h"

namespace qwb {

struct SpeedOptions {
  int64_t prompt = 512;     // tokens of a prefill ("pp512"), or the model's limit if that is smaller
  int64_t generate = 128;   // tokens decoded one by one from an empty cache ("tg128"), likewise
  int64_t repetitions = 5;  // after one warm-up that does not count
  // Called around all measured repetitions of "prefill" and of "decode", with the number of tokens in
  // between: for energy.
  std::function<void(const std::string& phase)> before;
  std::function<void(const std::string& phase, int64_t tokens)> after;
};

struct Spread {
  double median = 0;
  double minimum = 0;
  double maximum = 0;
};
// Throws usage for an empty list.
Spread spread_of(std::vector<double> values);

struct SpeedResult {
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  int64_t repetitions = 0;
  int threads = 0;
  Spread prefill;      // tokens/s, the logits of the last token included
  Spread decode;       // tokens/s, the logits of every token included
  Spread first_token;  // seconds from a prompt of prompt_tokens to the logits of the first new token
};

// Throws usage for sizes below one.
SpeedResult measure_speed(const Model& model, const SpeedOptions& options, Progress& progress);

}  // namespace qwb
