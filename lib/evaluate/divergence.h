// How far a quantized model's predictions are from those of the unquantized one, token by token,
// both models living in this process: no file of logits in between.
//
//   mean_kl        KL(base || other) in nats, mean over scored tokens, and its quantiles
//   same_top       share of tokens where both find the same token most likely (ties: the lowest id)
//   probability    p_other(true token) - p_base(true token): mean, root mean square, quantiles
//   log_ratio      mean difference of losses, other - base (for hf-stride and lm-eval weighed as
//                  the protocol weighs losses); ratio = exp of it
//   correlation    Pearson's, of the two models' losses over tokens
// The quantities are those of llama.cpp's perplexity --kl-divergence; its logits went through a
// 16-bit file with a floor 16 nats below the top, ours are f32 with f64 behind. Errors:
// statistics.h, over windows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/json.h"
#include "lib/evaluate/keeper.h"
#include "lib/evaluate/perplexity.h"
#include "lib/evaluate/protocols.h"
#include "lib/evaluate/statistics.h"
#include "lib/model/model.h"

namespace qwb {

// The values kept for one scored token.
struct TokenDivergence {
  double kl = 0;
  double base_loss = 0;
  double other_loss = 0;
  bool same_top = false;
};

// The quantiles that are reported: 0 is the minimum, 1 the maximum.
inline constexpr double kDivergenceQuantiles[] = {0,   0.01, 0.05, 0.1,   0.5,
                                                  0.9, 0.95, 0.99, 0.999, 1};

struct DivergenceResult {
  std::string protocol;
  int64_t context = 0;
  int64_t stride = 0;
  int64_t tokens = 0;
  int64_t windows = 0;
  std::string text_hash;
  std::string token_hash;
  Estimate mean_kl;
  std::vector<double> kl_quantiles;  // at kDivergenceQuantiles
  Estimate same_top;
  Estimate mean_probability;
  Estimate rms_probability;
  std::vector<double> probability_quantiles;
  PerplexityRatio ratio;
  double correlation = 0;  // NaN if a model's losses are all the same
  // Bytes that this measurement holds: the weights of both models (mapped or quantized, as stored),
  // KV caches and hidden states of a window, two tiles of logits, and what is kept of every token.
  int64_t base_weight_bytes = 0;
  int64_t weight_bytes = 0;
  int64_t state_bytes = 0;
  bool cached = false;
};

// Both perplexities come with it, equal bit for bit to those that measure_perplexity gives.
struct DivergenceMeasurement {
  DivergenceResult divergence;
  PerplexityResult base;
  PerplexityResult other;
};

// One token for each row of logits [rows, vocab], which lie on the executor's device. No sum
// crosses a row. `finite` is false if a row had a NaN or an infinity.
std::vector<TokenDivergence> divergence_of_rows(const Executor& executor, In base, In other,
                                                std::span<const int32_t> targets, bool& finite);

// From the tokens of all windows of a plan, in order.
DivergenceResult summarize_divergence(const TokenPlan& plan,
                                      std::span<const TokenDivergence> tokens);

// `base_plan` and `plan` must be equal: throws usage, saying what differs, for models of different
// vocabularies or tokenizers; `failed` for NaN (see WindowScorer). Journal: the losses and tokens
// of a window.
DivergenceMeasurement measure_divergence(const Model& base, const TokenPlan& base_plan,
                                         const Model& other, const TokenPlan& plan,
                                         const Context& context, WorkJournal* journal = nullptr);

Json divergence_to_json(const DivergenceResult& result);
DivergenceResult divergence_from_json(const Json& json);

}  // namespace qwb
