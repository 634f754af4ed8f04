#include "lib/evaluate/record.h"

#include <algorithm>

#include "lib/evaluate/estimate_json.h"
#include "lib/evaluate/quality_json.h"

namespace qwb {
namespace {

Json number(std::optional<double> value) {
  return number_json(value);
}
Json text(const std::string& value) {
  return text_json(value);
}

Json spread_json(const char* count_name, int64_t tokens, const Spread& spread) {
  return {{count_name, tokens},
          {"median", number(spread.median)},
          {"min", number(spread.minimum)},
          {"max", number(spread.maximum)}};
}

Json problems_json(const QualityRecord& quality) {
  Json problems = Json::array();
  for (const Error& problem : quality.problems) problems.push_back(problem.what());
  return problems;
}

Json speed_json(const EvaluationRecord& record) {
  if (!record.speed) return nullptr;
  const SpeedResult& s = *record.speed;
  return {{"load_seconds", number(record.load_seconds)},
          {"threads", s.threads},
          {"isa", text(record.isa)},
          {"repetitions", s.repetitions},
          {"prefill", spread_json("tokens", s.prompt_tokens, s.prefill)},
          {"decode", spread_json("tokens", s.generated_tokens, s.decode)},
          {"first_token_seconds", spread_json("prompt", s.prompt_tokens, s.first_token)}};
}

Json memory_json(const EvaluationRecord& record) {
  if (!record.memory) return nullptr;
  const MemoryUse& m = *record.memory;
  return {{"peak_bytes", m.peak},
          {"resident_bytes", m.resident},
          {"anonymous_bytes", m.anonymous},
          {"file_bytes", m.file},
          {"weight_bytes", record.weight_bytes},
          {"kv_bytes", record.kv_bytes},
          {"kv_tokens", record.kv_tokens},
          {"peak_reset", record.peak_reset}};
}

Json figure_json(const std::optional<EnergyFigure>& figure) {
  const EnergyFigure f = figure.value_or(EnergyFigure{});
  return {{"joules", figure ? number(f.joules) : Json(nullptr)},
          {"source", text(f.source)},
          {"device", text(f.device)},
          {"domain", text(f.domain)},
          {"quality", figure ? Json(f.quality) : Json("unavailable")},
          {"seconds", figure ? number(f.seconds) : Json(nullptr)},
          {"watts", figure ? number(f.watts) : Json(nullptr)},
          {"remark", text(f.remark)}};
}

Json window_json(const EnergyWindow& window) {
  Json json = {{"work", window.work}, {"tokens", window.tokens}, {"joules_per_token", nullptr}};
  const auto& total = window.report.total;
  if (total && window.tokens > 0)
    json["joules_per_token"] = number(total->joules / static_cast<double>(window.tokens));
  json.update(figure_json(total));
  json["parts"] = Json::array();
  for (const EnergyFigure& part : window.report.parts) json["parts"].push_back(figure_json(part));
  return json;
}

Json energy_json(const EvaluationRecord& record) {
  if (record.energy.empty()) return nullptr;
  Json json = figure_json(total_energy(record.energy));
  json["windows"] = Json::array();
  std::vector<std::string> reasons;
  for (const EnergyWindow& window : record.energy) {
    json["windows"].push_back(window_json(window));
    for (const std::string& reason : window.report.reasons) {
      if (std::find(reasons.begin(), reasons.end(), reason) == reasons.end()) reasons.push_back(reason);
    }
  }
  json["reasons"] = reasons;
  return json;
}

// Adds `word` to a list of different words.
void collect(std::string& list, const std::string& word, const char* separator) {
  if (word.empty() || list == word || list.find(separator + word) != std::string::npos ||
      list.starts_with(word + separator))
    return;
  list += (list.empty() ? "" : separator) + word;
}

}  // namespace

std::optional<EnergyFigure> total_energy(const std::vector<EnergyWindow>& windows) {
  EnergyFigure total;
  for (const EnergyWindow& window : windows) {
    if (!window.report.total) return std::nullopt;
    const EnergyFigure& f = *window.report.total;
    total.joules += f.joules;
    total.seconds += f.seconds;
    collect(total.source, f.source, "+");
    collect(total.device, f.device, "+");
    collect(total.domain, f.domain, "+");
    if (total.quality != "estimated") total.quality = f.quality;
    if (f.source != "estimate" || windows.size() == 1) collect(total.remark, f.remark, "; ");
  }
  if (windows.empty()) return std::nullopt;
  total.watts = total.seconds > 0 ? total.joules / total.seconds : 0;
  return total;
}

Json record_json(const EvaluationRecord& record) {
  return {{"schema", kRecordSchema},
          {"artifact", record.artifact},
          {"method", record.method},
          {"int8_forward", record.int8_forward},
          {"bits", number(record.bits)},
          {"bpw", number(record.bpw)},
          {"bytes", record.bytes},
          {"perplexity", perplexity_record(record.quality)},
          {"divergence", divergence_record(record.quality)},
          {"tasks", tasks_record(record.quality)},
          {"speed", speed_json(record)},
          {"memory", memory_json(record)},
          {"energy", energy_json(record)},
          {"problems", problems_json(record.quality)}};
}

}  // namespace qwb
