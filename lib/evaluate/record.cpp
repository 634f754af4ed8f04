#include "lib/evaluate/record.h"

#include <cmath>

namespace qwb {
namespace {

// JSON has no NaN or infinity: a number that is none is absent.
Json number(std::optional<double> value) {
  return value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}
Json text(const std::string& value) {
  return value.empty() ? Json(nullptr) : Json(value);
}

Json perplexity_json(const EvaluationRecord& record) {
  if (!record.perplexity) return nullptr;
  const PerplexityResult& p = *record.perplexity;
  return {{"protocol", p.protocol},
          {"context", p.context},
          {"tokens", p.tokens},
          {"windows", p.windows},
          {"value", number(p.value)},
          {"stderr", number(p.standard_error)},
          {"ratio", record.ratio ? number(record.ratio->value) : Json(nullptr)},
          {"ratio_stderr", record.ratio ? number(record.ratio->standard_error) : Json(nullptr)},
          {"baseline", text(record.baseline)},
          {"text_hash", p.text_hash},
          {"token_hash", p.token_hash}};
}

}  // namespace

Json record_json(const EvaluationRecord& record) {
  return {{"schema", 1},
          {"artifact", record.artifact},
          {"method", record.method},
          {"int8_forward", record.int8_forward},
          {"bits", number(record.bits)},
          {"bpw", number(record.bpw)},
          {"bytes", record.bytes},
          {"perplexity", perplexity_json(record)},
          {"speed", record.speed},
          {"memory", record.memory},
          {"energy", record.energy}};
}

}  // namespace qwb
