// What was measured of one artifact, as one line of JSON (schema 1) or one row of a table. What was not
// measured is null.
//
//   schema      1
//   artifact    the folder
//   int8_forward  how modules stored as int8 ran: {name: "dequantize"} or {name: "LLM.int8", threshold}; null
//   without such modules
//   method      "none" for an unquantized model, "mixed" for several in one artifact
//   bits        of a code, averaged over the quantized weights; of an unquantized model, of its weights' type
//   bpw         bits per weight: all stored tensors over the number of weights of the model
//   bytes       of all tensors
//   perplexity  {protocol, context, tokens, windows, value, stderr, ratio, ratio_stderr, baseline, text_hash,
//   token_hash}
//               ratio: to the unquantized model in `baseline`, paired over windows
//   speed       {load_seconds, threads, isa, repetitions, prefill, decode: {tokens, median, min, max} in
//   tokens/s,
//               first_token_seconds: {prompt, median, min, max}}
//   memory      {peak_bytes, resident_bytes, anonymous_bytes, file_bytes, weight_bytes, kv_bytes, kv_tokens,
//   peak_reset};
//               peak_reset false: the peak includes what ran earlier in this process
//   energy      {joules, source, device, domain, quality, seconds, watts, remark, windows: [{work, tokens,
//   joules, joules_per_token, ...}],
//               parts: [...], reasons: [...]}; joules null if neither measured nor estimated
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/evaluate/energy/energy.h"
#include "lib/evaluate/memory.h"
#include "lib/evaluate/perplexity.h"
#include "lib/evaluate/speed.h"

namespace qwb {

// Energy of one piece of work.
struct EnergyWindow {
  std::string work;  // "perplexity", "prefill", "decode"
  int64_t tokens = 0;
  EnergyReport report;
};

struct EvaluationRecord {
  std::string artifact;
  std::string method = "none";
  Json int8_forward;  // lib/model/int8_forward.h
  std::optional<double> bits;
  std::optional<double> bpw;
  int64_t bytes = 0;

  std::optional<PerplexityResult> perplexity;
  std::optional<PerplexityRatio> ratio;
  std::string baseline;  // folder of the unquantized model, if it was found
  double load_seconds = 0;
  std::optional<SpeedResult> speed;
  std::string isa;
  std::optional<MemoryUse> memory;
  bool peak_reset = false;
  int64_t weight_bytes = 0;
  int64_t kv_bytes = 0;
  int64_t kv_tokens = 0;
  std::vector<EnergyWindow> energy;  // empty: not asked for
};

// The total over windows: joules and seconds add up; its source, device, domain, quality and remark are those
// of the windows, "estimated" if any of them is. Nothing if a window has no figure.
std::optional<EnergyFigure> total_energy(const std::vector<EnergyWindow>& windows);

Json record_json(const EvaluationRecord& record);

}  // namespace qwb
