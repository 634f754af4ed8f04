#include "lib/evaluate/quality_json.h"

#include "lib/evaluate/estimate_json.h"

namespace qwb {
namespace {

Json flips_json(const std::optional<TaskFlips>& flips) {
  if (!flips) return nullptr;
  return {{"to_wrong", flips->to_wrong},
          {"to_right", flips->to_right},
          {"changed", flips->changed},
          {"acc_difference", estimate_json(flips->difference)}};
}

Json task_json(const TaskResult& r) {
  return {{"task", r.name},
          {"version", r.version},
          {"file", r.file},
          {"items", r.items},
          {"items_in_file", r.original},
          {"shots", r.shots},
          {"seed", r.seed},
          {"acc", estimate_json(r.accuracy)},
          {"acc_norm", r.normalized ? estimate_json(*r.normalized) : Json(nullptr)},
          {"perplexity", r.perplexity ? estimate_json(*r.perplexity) : Json(nullptr)},
          {"flips", flips_json(r.flips)},
          {"hash", r.hash},
          {"cached", r.cached}};
}

}  // namespace

Json perplexity_record(const QualityRecord& record) {
  if (!record.perplexity) return nullptr;
  const PerplexityResult& p = *record.perplexity;
  const auto of_ratio = [&](const auto& field) {
    return record.ratio ? field(*record.ratio) : Json(nullptr);
  };
  Json json = {{"protocol", p.protocol},
               {"context", p.context},
               {"stride", p.stride > 0 ? Json(p.stride) : Json(nullptr)},
               {"tokens", p.tokens},
               {"windows", p.windows},
               {"documents", p.documents},
               {"value", number_json(p.value.value)},
               {"stderr", number_json(p.value.standard_error)},
               {"interval", interval_json(p.value.interval)},
               {"words", nullptr},
               {"bytes", nullptr},
               {"byte_perplexity", nullptr},
               {"bits_per_byte", nullptr}};
  if (p.document) {
    json["words"] = p.document->words;
    json["bytes"] = p.document->bytes;
    json["byte_perplexity"] = number_json(p.document->byte_perplexity);
    json["bits_per_byte"] = number_json(p.document->bits_per_byte);
  }
  json["ratio"] = of_ratio([](const PerplexityRatio& r) { return number_json(r.ratio.value); });
  json["ratio_stderr"] =
      of_ratio([](const PerplexityRatio& r) { return number_json(r.ratio.standard_error); });
  json["ratio_interval"] =
      of_ratio([](const PerplexityRatio& r) { return interval_json(r.ratio.interval); });
  json["log_ratio"] = of_ratio([](const PerplexityRatio& r) { return estimate_json(r.log); });
  json["baseline_value"] =
      record.base_perplexity ? number_json(record.base_perplexity->value.value) : Json(nullptr);
  json["baseline"] = text_json(record.baseline);
  json["text_hash"] = p.text_hash;
  json["token_hash"] = p.token_hash;
  json["cached"] = p.cached;
  return json;
}

Json divergence_record(const QualityRecord& record) {
  if (!record.divergence) return nullptr;
  Json json = divergence_to_json(*record.divergence);
  if (record.divergence->stride == 0) json["stride"] = nullptr;
  json["baseline"] = text_json(record.baseline);
  json["cached"] = record.divergence->cached;
  return json;
}

Json tasks_record(const QualityRecord& record) {
  if (record.tasks.empty()) return nullptr;
  Json json = Json::array();
  for (const TaskResult& result : record.tasks) json.push_back(task_json(result));
  return json;
}

}  // namespace qwb
