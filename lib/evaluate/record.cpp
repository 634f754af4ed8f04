#include "lib/evaluate/record.h"

#include "lib/evaluate/estimate_json.h"
#include "lib/evaluate/quality_json.h"

namespace qwb {
namespace {

Json problems_json(const QualityRecord& quality) {
  Json problems = Json::array();
  for (const Error& problem : quality.problems) problems.push_back(problem.what());
  return problems;
}

}  // namespace

Json record_json(const EvaluationRecord& record) {
  const bool adapted = !record.adapters.is_null();
  Json json = {{"schema", kRecordSchema},
               {"artifact", record.artifact},
               {"method", record.method + (adapted ? "+lora" : "")},
               {"int8_forward", record.int8_forward},
               {"bits", number_json(record.bits)},
               {"bpw", number_json(record.bpw)},
               {"bytes", record.bytes},
               {"perplexity", perplexity_record(record.quality)},
               {"divergence", divergence_record(record.quality)},
               {"tasks", tasks_record(record.quality)},
               {"speed", record.speed},
               {"memory", record.memory},
               {"energy", record.energy},
               {"problems", problems_json(record.quality)}};
  if (adapted) json["adapters"] = record.adapters;
  return json;
}

}  // namespace qwb
