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
//   speed, memory, energy   what it costs: cost_record.h
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/evaluate/cost_record.h"
#include "lib/evaluate/perplexity.h"

namespace qwb {

struct EvaluationRecord {
  std::string artifact;
  std::string method = "none";
  Json int8_forward;  // lib/model/int8_forward.h
  std::optional<double> bits;
  std::optional<double> bpw;
  int64_t bytes = 0;

  std::optional<PerplexityResult> perplexity;
  std::optional<PerplexityRatio> ratio;
  std::string baseline;        // folder of the unquantized model, if it was found
  Json speed, memory, energy;  // null: not asked for
};

Json record_json(const EvaluationRecord& record);

}  // namespace qwb
