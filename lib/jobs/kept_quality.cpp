#include "lib/jobs/kept_quality.h"

#include <optional>
#include <utility>
#include <vector>

#include "lib/base/error.h"
#include "lib/evaluate/divergence.h"
#include "lib/evaluate/estimate_json.h"
#include "lib/evaluate/perplexity.h"
#include "lib/evaluate/quality.h"

namespace qwb {
namespace {

using Results = std::vector<std::pair<Json, Json>>;

bool is_of(const Json& key, const KeptModel& model, const char* kind) {
  return key.value("kind", Json()) == Json(kind) &&
         key.value("evaluation_version", Json()) == Json(kEvaluationVersion) &&
         key.value("forward", Json()) == model.forward &&
         key.value("isa", Json()) == Json(model.arithmetic) &&
         key.value("adapters", Json()) == model.adapters;
}

template <class Result>
Json conditions(const Result& result) {
  return {{"protocol", result.protocol}, {"context", result.context},
          {"stride", result.stride},     {"tokens", result.tokens},
          {"windows", result.windows},   {"text_hash", result.text_hash}};
}

// Of the base's, the one under the same plan.
std::optional<PerplexityResult> base_perplexity(const Results& results, const Json& key) {
  for (const auto& [other, result] : results) {
    if (other.value("plan", Json()) == key.value("plan", Json()))
      return perplexity_from_json(result);
  }
  return std::nullopt;
}

Json perplexity_json(const PerplexityResult& own, const std::optional<PerplexityResult>& base) {
  Json json = conditions(own);
  json["value"] = number_json(own.value.value);
  json["stderr"] = number_json(own.value.standard_error);
  json["ratio"] = json["ratio_stderr"] = nullptr;
  if (!base) return json;
  const Estimate ratio = perplexity_ratio(own, *base).ratio;
  json["ratio"] = number_json(ratio.value);
  json["ratio_stderr"] = number_json(ratio.standard_error);
  return json;
}

Json divergence_facts(const DivergenceResult& result) {
  Json json = conditions(result);
  json["mean_kl"] = number_json(result.mean_kl.value);
  json["mean_kl_stderr"] = number_json(result.mean_kl.standard_error);
  json["same_top"] = number_json(result.same_top.value);
  json["ratio"] = number_json(result.ratio.ratio.value);
  json["ratio_stderr"] = number_json(result.ratio.ratio.standard_error);
  return json;
}

}  // namespace

Json kept_quality(const ResultCache& results, const KeptModel& model, const KeptModel& base) {
  Json json = {{"perplexity", nullptr}, {"divergence", nullptr}};
  if (model.hash.empty()) return json;
  const Results own = results.of_model(model.hash, [&](const Json& key) {
    return is_of(key, model, "perplexity") || is_of(key, model, "divergence");
  });
  const bool same = model.hash == base.hash && model.adapters == base.adapters;
  const Results of_base =
      base.hash.empty() || same ? Results() : results.of_model(base.hash, [&](const Json& key) {
        return is_of(key, base, "perplexity");
      });
  for (const auto& [key, result] : own) {
    try {
      const bool divergence = is_of(key, model, "divergence") && !base.hash.empty() &&
                              base.adapters.is_null() &&
                              key.value("baseline", Json()) == Json(base.hash);
      if (divergence && json["divergence"].is_null()) {
        json["divergence"] = divergence_facts(divergence_from_json(result.at("divergence")));
        if (json["perplexity"].is_null())
          json["perplexity"] = perplexity_json(perplexity_from_json(result.at("other")),
                                               perplexity_from_json(result.at("base")));
      } else if (is_of(key, model, "perplexity") && json["perplexity"].is_null()) {
        json["perplexity"] =
            perplexity_json(perplexity_from_json(result), base_perplexity(of_base, key));
      }
    } catch (const std::exception&) {
      continue;  // of another version of this program
    }
  }
  return json;
}

}  // namespace qwb
