// Perplexity of a model under a plan (protocols.h): exp(sum of losses / what they count), losses in
// nats, sums in f64. For most protocols a token counts one; protocols.md has the exceptions.
//
// Errors: statistics.h over the windows (or documents). llama.cpp takes all tokens for independent
// and so reports smaller errors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/json.h"
#include "lib/evaluate/keeper.h"
#include "lib/evaluate/protocols.h"
#include "lib/evaluate/statistics.h"
#include "lib/model/model.h"

namespace qwb {

struct PerplexityResult {
  std::string protocol;
  int64_t context = 0;
  int64_t stride = 0;  // 0: the protocol has none
  int64_t tokens = 0;  // scored
  int64_t windows = 0;
  int64_t documents = 1;
  Estimate value;
  // lm-eval: the value is of a word; of the same losses, a byte's perplexity and log2 of that.
  struct Document {
    int64_t words = 0;
    int64_t bytes = 0;
    double byte_perplexity = 0;
    double bits_per_byte = 0;
  };
  std::optional<Document> document;
  std::string text_hash;
  std::string token_hash;
  std::vector<Unit> units;
  bool cached = false;  // measured by an earlier run
};

// Sums losses into the units of a plan.
class LossSums {
 public:
  explicit LossSums(const TokenPlan& plan);
  // The losses of window `index` summed, before its scale.
  void add(int64_t index, double sum);
  double so_far() const;  // the value over what was added
  PerplexityResult result() const;

 private:
  const TokenPlan& plan_;
  std::vector<Unit> units_;
  double sum_ = 0;
  double weight_ = 0;
};

// Throws `failed` (NaN; see WindowScorer). Progress counts tokens and shows the estimate so far.
// Windows in the journal (a number each: the summed losses) are not measured again; null: none.
PerplexityResult measure_perplexity(const Model& model, const TokenPlan& plan,
                                    const Context& context, WorkJournal* journal = nullptr);

// Of two results under the same plan, paired over the units: the errors are far smaller than those
// of the two values, because both models find the same windows hard. log: the mean difference of
// losses; ratio: exp of it. Throws usage unless protocol, context, windows and tokens are the same.
struct PerplexityRatio {
  Estimate log;
  Estimate ratio;
};
PerplexityRatio perplexity_ratio(const PerplexityResult& result, const PerplexityResult& baseline);

// A result as JSON and back, bit for bit, without `cached`.
Json perplexity_to_json(const PerplexityResult& result);
PerplexityResult perplexity_from_json(const Json& json);

}  // namespace qwb
