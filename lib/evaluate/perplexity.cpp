#include "lib/evaluate/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/error.h"
#include "lib/evaluate/window_scorer.h"

namespace qwb {

LossSums::LossSums(const TokenPlan& plan) : plan_(plan) {
  for (const double weight : plan.unit_weights) units_.push_back({0, weight});
}

void LossSums::add(int64_t index, double sum) {
  const TokenWindow& window = plan_.windows[index];
  Unit& unit = units_[window.unit];
  unit.sum += window.scale * sum;
  sum_ += window.scale * sum;
  // A document counts when its last window is done; windows in between share by tokens, near enough
  // to show.
  weight_ += plan_.words > 0
                 ? static_cast<double>(plan_.words) * static_cast<double>(window.scored()) /
                       static_cast<double>(plan_.scored())
                 : window.weight;
}

double LossSums::so_far() const {
  return std::exp(sum_ / weight_);
}

PerplexityResult LossSums::result() const {
  PerplexityResult result;
  result.protocol = plan_.protocol;
  result.context = plan_.context;
  result.stride = plan_.stride;
  result.tokens = plan_.scored();
  result.windows = static_cast<int64_t>(plan_.windows.size());
  result.documents = plan_.documents;
  result.text_hash = plan_.text_hash;
  result.token_hash = plan_.token_hash;
  result.units = units_;
  result.value = exp_of(estimate_mean(units_));
  if (plan_.words > 0) {
    const double per_byte = sum_ / static_cast<double>(plan_.bytes);
    result.document = {plan_.words, plan_.bytes, std::exp(per_byte), per_byte / std::log(2.0)};
  }
  return result;
}

PerplexityResult measure_perplexity(const Model& model, const TokenPlan& plan,
                                    const Context& context, WorkJournal* journal) {
  LossSums sums(plan);
  const auto windows = static_cast<int64_t>(plan.windows.size());
  context.progress->begin("perplexity", plan.read());
  const auto advance = [&](int64_t index) {
    context.progress->advance(plan.windows[index].size - 1,
                              fmt::format("{:.4f} so far", sums.so_far()));
  };
  int64_t next = 0;
  for (; journal != nullptr && next < std::min<int64_t>(windows, std::ssize(journal->finished()));
       ++next) {
    sums.add(next, journal->finished()[next].at(0));
    advance(next);
  }
  if (next < windows) {
    WindowScorer scorer(model, plan, context.stop);
    for (; next < windows; ++next) {
      context.stop.check();
      const std::span<const double> losses = scorer.score(next);
      const double sum = std::accumulate(losses.begin(), losses.end(), 0.0);
      sums.add(next, sum);
      if (journal != nullptr) journal->add({&sum, 1});
      advance(next);
    }
  }
  context.progress->end();
  return sums.result();
}

PerplexityRatio perplexity_ratio(const PerplexityResult& result, const PerplexityResult& baseline) {
  if (result.protocol != baseline.protocol || result.context != baseline.context ||
      result.stride != baseline.stride || result.token_hash != baseline.token_hash ||
      result.units.size() != baseline.units.size()) {
    throw Error(
        ErrorKind::usage,
        fmt::format("{} at {} and {} at {} were not measured on the same tokens in the same way",
                    result.protocol, result.context, baseline.protocol, baseline.context),
        {}, "the two models must have the same tokenizer");
  }
  PerplexityRatio ratio;
  ratio.log = estimate_mean(differences(result.units, baseline.units));
  ratio.ratio = exp_of(ratio.log);
  return ratio;
}

Json perplexity_to_json(const PerplexityResult& r) {
  Json units = Json::array();
  for (const Unit& unit : r.units) units.push_back({unit.sum, unit.weight});
  Json json = {{"protocol", r.protocol},   {"context", r.context},       {"stride", r.stride},
               {"tokens", r.tokens},       {"windows", r.windows},       {"documents", r.documents},
               {"text_hash", r.text_hash}, {"token_hash", r.token_hash}, {"units", units}};
  if (r.document)
    json["document"] = {{"words", r.document->words},
                        {"bytes", r.document->bytes},
                        {"byte_perplexity", r.document->byte_perplexity},
                        {"bits_per_byte", r.document->bits_per_byte}};
  return json;
}

PerplexityResult perplexity_from_json(const Json& json) {
  const std::string where = "a kept perplexity";
  PerplexityResult r;
  r.protocol = json_string(json, "protocol", where);
  r.context = json_int(json, "context", where);
  r.stride = json_int(json, "stride", where);
  r.tokens = json_int(json, "tokens", where);
  r.windows = json_int(json, "windows", where);
  r.documents = json_int(json, "documents", where);
  r.text_hash = json_string(json, "text_hash", where);
  r.token_hash = json_string(json, "token_hash", where);
  for (const Json& unit : json.at("units")) r.units.push_back({unit.at(0), unit.at(1)});
  r.value = exp_of(estimate_mean(r.units));
  if (json_has(json, "document")) {
    const Json& d = json.at("document");
    r.document = {json_int(d, "words", where), json_int(d, "bytes", where),
                  json_number(d, "byte_perplexity", where), json_number(d, "bits_per_byte", where)};
  }
  return r;
}

}  // namespace qwb
