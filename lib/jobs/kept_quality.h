// What earlier evaluations found that a model has lost, as the result cache keeps it. Nothing is
// measured here.
#pragma once

#include <string>

#include "lib/base/json.h"
#include "lib/jobs/result_cache.h"

namespace qwb {

// Which results count: those of the same content, forward pass, arithmetic and adapters.
struct KeptModel {
  std::string hash;  // OpenModel::content_hash; empty: it is not known
  Json forward;      // int8_forward_json
  std::string arithmetic;
  Json adapters = nullptr;  // additions_key() of what runs beside it; null: nothing
};

// {"perplexity": {"protocol", "context", "stride", "tokens", "windows", "text_hash", "value",
//   "stderr", "ratio", "ratio_stderr"},
//  "divergence": {"protocol", "context", "stride", "tokens", "windows", "text_hash", "mean_kl",
//   "mean_kl_stderr", "same_top", "ratio", "ratio_stderr"}}
// Of each the newest; null where there is none. Ratio and divergence are those to `base`: an empty
// hash, or one that no result names, gives null. So does a divergence from a base with adapters,
// which no evaluation measures.
Json kept_quality(const ResultCache& results, const KeptModel& model, const KeptModel& base);

}  // namespace qwb
