#include "lib/serve/api/answer_meter.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/evaluate/estimate_json.h"

namespace qwb::serve {
namespace {

constexpr int kCounterSteps = 50;  // of a window, at least: a step more or less is 2 % of it
constexpr const char* kShared = "shared, estimated";

std::string short_text(double seconds, double least) {
  return fmt::format("too short: {:.3g} s, and {} steps of the slowest counter take {:.3g} s",
                     seconds, kCounterSteps, least);
}

std::string joined(const std::vector<std::string>& reasons) {
  std::string text;
  for (const std::string& reason : reasons) text += (text.empty() ? "" : "; ") + reason;
  return text.empty() ? "nothing was measured" : text;
}

}  // namespace

Json no_energy(const std::string& reason) {
  return {{"joules", nullptr}, {"quality", "unavailable"}, {"reason", reason}};
}

AnswerMeter::AnswerMeter(const EnergyOptions& options, double idle_seconds, const Context& context)
    : whole_(options), prefill_(options) {
  Json counters = Json::array();
  for (const CounterInfo& counter : whole_.counters())
    counters.push_back({{"device", counter.device},
                        {"method", counter.method},
                        {"step_seconds", counter.step.seconds}});
  least_seconds_ = whole_.seconds_for_steps(kCounterSteps);
  EnergyPlan plan;
  plan.idle_seconds = idle_seconds;
  idle_.before = measure_idle(whole_, plan, context);
  Json watts = nullptr;
  if (idle_.before && idle_.before->total && idle_.before->total->quality == "measured")
    watts = idle_.before->total->watts;
  about_ = {{"measures", !counters.empty()},
            {"counters", std::move(counters)},
            {"idle_watts", watts},
            {"least_seconds", least_seconds_},
            {"reasons", whole_.unavailable()}};
}

int64_t AnswerMeter::begin(const EngineLoad& load) {
  const std::lock_guard lock(mutex_);
  if (open_) return 0;
  open_ = reading_ = true;
  prompt_.reset();
  before_ = load;
  whole_.start();
  prefill_.start();
  return ++measurement_;
}

void AnswerMeter::prefill_ended(int64_t measurement) {
  const std::lock_guard lock(mutex_);
  if (!open_ || measurement != measurement_) return;
  if (std::exchange(reading_, false)) prompt_ = prefill_.stop();
}

AnswerMeter::Closed AnswerMeter::close(const EngineLoad& load, int64_t own) {
  const std::lock_guard lock(mutex_);
  Closed closed;
  closed.whole = whole_.stop();
  if (reading_) prefill_.stop();
  closed.prefill = std::move(prompt_);
  closed.alone =
      before_.running == 0 && before_.waiting == 0 && load.requests == before_.requests + own;
  open_ = reading_ = false;
  return closed;
}

void AnswerMeter::drop() {
  close({}, 0);
}

bool AnswerMeter::too_short(const EnergyFigure& figure) const {
  return figure.quality == "measured" && figure.seconds < least_seconds_;
}

Json AnswerMeter::figure_json(const EnergyFigure& figure) const {
  return {{"joules", number_json(figure.joules)},
          {"net_joules", number_json(idle_.net_joules(figure))},
          {"method", text_json(figure.method)},
          {"device", text_json(figure.device)},
          {"domain", text_json(figure.domain)},
          {"quality", figure.quality},
          {"seconds", number_json(figure.seconds)},
          {"watts", number_json(figure.watts)},
          {"remark", text_json(figure.remark)},
          {"reason", nullptr},
          {"short", nullptr},
          {"least_seconds", least_seconds_}};
}

void AnswerMeter::add_parts(Json& json, const Closed& closed, const JobCounts& counts) const {
  const EnergyFigure& whole = *closed.whole.total;
  const auto reason = [](const std::string& text) {
    return Json{{"joules", nullptr}, {"reason", text}};
  };
  const auto& prompt = closed.prefill ? closed.prefill->total : std::nullopt;
  if (!prompt || prompt->method != whole.method) {
    json["prefill"] = json["decode"] = reason("the prompt was not measured apart");
    return;
  }
  json["prefill"] = too_short(*prompt)
                        ? reason(short_text(prompt->seconds, least_seconds_))
                        : Json{{"joules", prompt->joules}, {"seconds", prompt->seconds}};
  EnergyFigure decode = whole;
  decode.joules -= prompt->joules;
  decode.seconds -= prompt->seconds;
  const int64_t tokens = counts.generated_tokens - 1;
  if (tokens < 1 || decode.joules <= 0) {
    json["decode"] = reason("no token was decoded behind the first");
  } else if (too_short(decode)) {
    json["decode"] = reason(short_text(decode.seconds, least_seconds_));
  } else {
    json["decode"] = {{"joules", decode.joules},
                      {"seconds", decode.seconds},
                      {"joules_per_token", decode.joules / static_cast<double>(tokens)}};
  }
}

Json AnswerMeter::end(const EngineLoad& load, int64_t own, const JobCounts& counts) {
  const Closed closed = close(load, own);
  if (!closed.whole.total) return no_energy(joined(closed.whole.reasons));
  if (!closed.alone) return no_energy("other requests ran beside it");
  const EnergyFigure& whole = *closed.whole.total;
  Json json = figure_json(whole);
  add_parts(json, closed, counts);
  if (!too_short(whole)) return json;
  json["short"] = json["joules"];
  json["joules"] = json["net_joules"] = nullptr;
  json["reason"] = short_text(whole.seconds, least_seconds_);
  return json;
}

std::unique_ptr<MeteredRequest> MeteredRequest::begin(std::shared_ptr<AnswerMeter> meter,
                                                      const Engine& engine) {
  if (meter == nullptr) return nullptr;
  const EngineLoad load = engine.load();
  if (load.running > 0 || load.waiting > 0) return nullptr;
  const int64_t measurement = meter->begin(load);
  if (measurement == 0) return nullptr;
  return std::unique_ptr<MeteredRequest>(new MeteredRequest(std::move(meter), engine, measurement));
}

MeteredRequest::~MeteredRequest() {
  if (open_) drop();
}

void MeteredRequest::drop() {
  open_ = false;
  meter_->drop();
}

Json MeteredRequest::end(const JobCounts& counts) {
  open_ = false;
  return meter_->end(engine_.load(), 1, counts);
}

std::vector<Json> AnswerMeter::end_shared(const EngineLoad& load, int64_t own,
                                          const std::vector<JobCounts>& answers) {
  const Closed closed = close(load, own);
  std::string reason;
  double busy = 0;
  for (const JobCounts& counts : answers) busy += counts.busy_seconds;
  if (!closed.whole.total)
    reason = joined(closed.whole.reasons);
  else if (!closed.alone)
    reason = "other requests ran beside it";
  else if (too_short(*closed.whole.total))
    reason = short_text(closed.whole.total->seconds, least_seconds_);
  else if (busy <= 0)
    reason = "nothing was computed";
  std::vector<Json> figures;
  for (const JobCounts& counts : answers) {
    if (!reason.empty()) {
      figures.push_back(no_energy(reason));
      continue;
    }
    EnergyFigure part = *closed.whole.total;
    part.joules *= counts.busy_seconds / busy;
    Json json = figure_json(part);
    json["net_joules"] = json["watts"] = nullptr;
    json["quality"] = kShared;
    figures.push_back(std::move(json));
  }
  return figures;
}

}  // namespace qwb::serve
