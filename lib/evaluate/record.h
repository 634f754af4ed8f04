// The measurements of one artifact, as one line of JSON (schema 2) or one row of a table. A value
// that was not measured is null. An ESTIMATE is {value, stderr, interval: [low, high] of 95 %}
// (statistics.h); stderr and interval are null where there is a single window.
//
//   schema      2
//   artifact    the folder
//   int8_forward
//               how modules stored as int8 ran: {name: "dequantize"} or
//               {name: "LLM.int8", threshold}; null without such modules
//   method      "none" for an unquantized model, "mixed" for several in one artifact; "+lora"
//               behind it where adapters ran beside it
//   adapters    [{name, hash, scale, modules, rank}], only where there are some
//   bits        of a code, averaged over the quantized weights; of an unquantized model, of its
//               weights' type
//   bpw         bits per weight: all stored tensors over the number of weights of the model
//   bytes       of all tensors
//   perplexity  {protocol, context, stride (hf-stride), tokens, windows, documents, value, stderr,
//               interval, words, bytes, byte_perplexity, bits_per_byte (lm-eval: value is of a
//               word), ratio, ratio_stderr, ratio_interval, log_ratio: ESTIMATE, baseline_value,
//               baseline, text_hash, token_hash, cached}
//               ratio: to the unquantized model in `baseline`, paired over windows
//   divergence  from `baseline` (divergence.h): {protocol, context, stride, tokens, windows,
//               mean_kl: ESTIMATE, kl_quantiles: {min, p1, p5, p10, p50, p90, p95, p99, "p99.9",
//               max}, same_top: ESTIMATE, mean_probability_change: ESTIMATE,
//               rms_probability_change: ESTIMATE, probability_change_quantiles,
//               log_ratio: ESTIMATE, ratio: ESTIMATE, correlation,
//               memory: {baseline_weight_bytes, weight_bytes, state_bytes}, text_hash, token_hash,
//               baseline, cached}
//   tasks       [{task, version, file, items, items_in_file, shots, seed, acc: ESTIMATE,
//               acc_norm: ESTIMATE or null, perplexity: ESTIMATE or null (last-word tasks),
//               flips: {to_wrong, to_right, changed, acc_difference: ESTIMATE} against the
//               baseline or null, hash, cached}]
//   problems    [text]: what was asked for and failed; empty if nothing did
//   cached, wherever it stands: an earlier run measured it
//   speed, memory, energy   what it costs: cost_record.h
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/evaluate/divergence.h"
#include "lib/evaluate/perplexity.h"
#include "lib/evaluate/tasks/task_score.h"

namespace qwb {

inline constexpr int64_t kRecordSchema = 2;

struct QualityRecord {
  std::optional<PerplexityResult> perplexity;
  std::optional<PerplexityResult> base_perplexity;
  std::optional<PerplexityRatio> ratio;
  std::optional<DivergenceResult> divergence;
  std::vector<TaskResult> tasks;
  std::string baseline;         // folder of the unquantized model, if it was found
  bool is_baseline = false;     // the model is the one that others are compared with
  std::vector<Error> problems;  // measurements that failed; the others stand

  bool measured() const { return perplexity || divergence || !tasks.empty(); }
};

struct EvaluationRecord {
  std::string artifact;
  std::string method = "none";
  Json adapters = nullptr;  // LoadedModel::additions
  Json int8_forward;        // lib/model/int8_forward.h
  std::optional<double> bits;
  std::optional<double> bpw;
  int64_t bytes = 0;

  QualityRecord quality;
  Json speed, memory, energy;  // null: not asked for
};

Json record_json(const EvaluationRecord& record);

}  // namespace qwb
