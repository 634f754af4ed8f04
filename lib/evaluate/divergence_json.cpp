#include <array>

#include "lib/evaluate/divergence.h"
#include "lib/evaluate/estimate_json.h"

namespace qwb {
namespace {

constexpr std::array<const char*, std::size(kDivergenceQuantiles)> kQuantileNames = {
    "min", "p1", "p5", "p10", "p50", "p90", "p95", "p99", "p99.9", "max"};

Json quantiles_json(const std::vector<double>& values) {
  Json json = Json::object();
  for (size_t i = 0; i < kQuantileNames.size(); ++i)
    json[kQuantileNames[i]] = number_json(values.at(i));
  return json;
}

std::vector<double> quantiles_from_json(const Json& json) {
  std::vector<double> values;
  values.reserve(std::size(kQuantileNames));
  for (const char* name : kQuantileNames) values.push_back(number_from_json(json.at(name)));
  return values;
}

}  // namespace

Json divergence_to_json(const DivergenceResult& r) {
  return {{"protocol", r.protocol},
          {"context", r.context},
          {"stride", r.stride},
          {"tokens", r.tokens},
          {"windows", r.windows},
          {"mean_kl", estimate_json(r.mean_kl)},
          {"kl_quantiles", quantiles_json(r.kl_quantiles)},
          {"same_top", estimate_json(r.same_top)},
          {"mean_probability_change", estimate_json(r.mean_probability)},
          {"rms_probability_change", estimate_json(r.rms_probability)},
          {"probability_change_quantiles", quantiles_json(r.probability_quantiles)},
          {"log_ratio", estimate_json(r.ratio.log)},
          {"ratio", estimate_json(r.ratio.ratio)},
          {"correlation", number_json(r.correlation)},
          {"memory",
           {{"baseline_weight_bytes", r.base_weight_bytes},
            {"weight_bytes", r.weight_bytes},
            {"state_bytes", r.state_bytes}}},
          {"text_hash", r.text_hash},
          {"token_hash", r.token_hash}};
}

DivergenceResult divergence_from_json(const Json& json) {
  const std::string where = "a kept divergence";
  DivergenceResult r;
  r.protocol = json_string(json, "protocol", where);
  r.context = json_int(json, "context", where);
  r.stride = json_int(json, "stride", where);
  r.tokens = json_int(json, "tokens", where);
  r.windows = json_int(json, "windows", where);
  const auto estimate = [&](const char* key) { return estimate_from_json(json.at(key), where); };
  r.mean_kl = estimate("mean_kl");
  r.kl_quantiles = quantiles_from_json(json.at("kl_quantiles"));
  r.same_top = estimate("same_top");
  r.mean_probability = estimate("mean_probability_change");
  r.rms_probability = estimate("rms_probability_change");
  r.probability_quantiles = quantiles_from_json(json.at("probability_change_quantiles"));
  r.ratio = {estimate("log_ratio"), estimate("ratio")};
  r.correlation = number_from_json(json.at("correlation"));
  const Json& memory = json.at("memory");
  r.base_weight_bytes = json_int(memory, "baseline_weight_bytes", where);
  r.weight_bytes = json_int(memory, "weight_bytes", where);
  r.state_bytes = json_int(memory, "state_bytes", where);
  r.text_hash = json_string(json, "text_hash", where);
  r.token_hash = json_string(json, "token_hash", where);
  return r;
}

}  // namespace qwb
