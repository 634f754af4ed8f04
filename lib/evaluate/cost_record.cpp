#include "lib/evaluate/cost_record.h"

#include <algorithm>

#include "lib/evaluate/estimate_json.h"

namespace qwb {
namespace {

Json spread_json(const Spread& spread) {
  return {{"median", number_json(spread.median)},
          {"min", number_json(spread.minimum)},
          {"max", number_json(spread.maximum)},
          {"mean", number_json(spread.mean)},
          {"stddev", number_json(spread.deviation)}};
}

Json test_json(const SpeedRun& run) {
  Json json = {{"name", run.test.name()},     {"n_prompt", run.test.n_prompt},
               {"n_gen", run.test.n_gen},     {"n_depth", run.test.n_depth},
               {"test_time", run.time},       {"kv_bytes", run.kv_bytes},
               {"samples_ns", run.samples_ns}};
  json["cpu_share"] = Json::array();
  for (const CpuShares& shares : run.shares) json["cpu_share"].push_back(number_json(shares.own));
  json["lost_share"] = number_json(run.lost_share);
  json["disturbed"] = run.disturbed;
  json["noisy"] = run.noisy;
  json.update(spread_json(run.rate()));
  return json;
}

// The first cell of a kind.
Json summary_json(const SpeedRun* run, const char* count_name, const Spread& spread) {
  if (run == nullptr) return nullptr;
  Json json = {
      {count_name, run->test.tokens()}, {"depth", run->test.n_depth}, {"noisy", run->noisy}};
  json.update(spread_json(spread));
  return json;
}

}  // namespace

Json speed_json(const SpeedCost& cost) {
  const SpeedResult& r = cost.result;
  const SpeedRun *prefill = r.prefill(), *decode = r.decode();
  Json tests = Json::array();
  for (const SpeedRun& run : r.runs) tests.push_back(test_json(run));
  const bool first_is_prefill =
      prefill != nullptr && prefill == &r.runs.front() && prefill->test.n_depth == 0;
  return {
      {"load_seconds", number_json(cost.load_seconds)},
      {"load_to_first_token_seconds",
       first_is_prefill ? number_json(cost.load_seconds + r.first_pass_seconds) : Json(nullptr)},
      {"threads", r.threads},
      {"isa", text_json(cost.isa)},
      {"cpu", text_json(cost.cpu)},
      {"version", text_json(cost.version)},
      {"repetitions", r.repetitions},
      {"in_turns", r.models},
      {"load_average", Json::array({number_json(r.load_before), number_json(r.load_after)})},
      {"test_time", r.runs.empty() ? Json(nullptr) : Json(r.runs.front().time)},
      {"model",
       {{"architecture", text_json(cost.architecture)},
        {"parameters", cost.parameters},
        {"bytes", cost.bytes}}},
      {"prefill", summary_json(prefill, "tokens", prefill ? prefill->rate() : Spread{})},
      {"decode", summary_json(decode, "tokens", decode ? decode->rate() : Spread{})},
      {"first_token_seconds",
       summary_json(prefill, "prompt", prefill ? spread_of(prefill->seconds()) : Spread{})},
      {"tests", tests}};
}

Json memory_json(const MemoryCost& cost) {
  Json ledger = Json::object();
  const auto count = [](const MemoryCount& c) { return Json{{"now", c.now}, {"peak", c.peak}}; };
  for (int i = 0; i < kMemoryKinds; ++i) {
    const auto kind = static_cast<MemoryKind>(i);
    ledger[memory_kind_name(kind)] = count(cost.ledger[kind]);
  }
  ledger["allocated"] = count(cost.ledger.allocated);
  const auto use = [&](int64_t MemoryUse::*figure) {
    return cost.use ? Json(*cost.use.*figure) : Json(nullptr);
  };
  return {{"peak_bytes", use(&MemoryUse::peak)},
          {"resident_bytes", use(&MemoryUse::resident)},
          {"anonymous_bytes", use(&MemoryUse::anonymous)},
          {"file_bytes", use(&MemoryUse::file)},
          {"peak_reset", cost.peak_reset},
          {"weight_bytes", cost.weight_bytes},
          {"kv_bytes", cost.kv_bytes},
          {"kv_tokens", cost.kv_tokens},
          {"quantize_peak_bytes", cost.quantize_peak ? Json(*cost.quantize_peak) : Json(nullptr)},
          {"ledger", ledger},
          {"model",
           {{"mapped_bytes", cost.model.mapped},
            {"copied_bytes", cost.model.copied},
            {"vector_bytes", cost.model.vectors}}}};
}

namespace {

Json figure_json(const std::optional<EnergyFigure>& figure, const IdleBaseline& idle) {
  const EnergyFigure f = figure.value_or(EnergyFigure{});
  Json json = {{"joules", figure ? number_json(f.joules) : Json(nullptr)},
               {"net_joules", figure ? number_json(idle.net_joules(f)) : Json(nullptr)},
               {"method", text_json(f.method)},
               {"device", text_json(f.device)},
               {"domain", text_json(f.domain)},
               {"quality", figure ? Json(f.quality) : Json("unavailable")},
               {"seconds", figure ? number_json(f.seconds) : Json(nullptr)},
               {"watts", figure ? number_json(f.watts) : Json(nullptr)},
               {"remark", text_json(f.remark)},
               {"integrated_joules", number_json(f.integrated_joules)},
               {"power_ratio", nullptr},
               {"celsius_begin", number_json(f.celsius_begin)},
               {"celsius_end", number_json(f.celsius_end)},
               {"power_limit_watts", number_json(f.power_limit_watts)}};
  if (f.integrated_joules && f.joules > 0)
    json["power_ratio"] = number_json(*f.integrated_joules / f.joules);
  return json;
}

// Joules for each of `count` things.
Json per_unit(const Json& figure, const char* key, double count) {
  return figure[key].is_number() && count > 0 ? number_json(figure[key].get<double>() / count)
                                              : Json(nullptr);
}

Json window_json(const EnergyWindow& window, const IdleBaseline& idle) {
  Json json = {{"work", window.work},        {"n_prompt", window.test.n_prompt},
               {"n_gen", window.test.n_gen}, {"n_depth", window.test.n_depth},
               {"passes", window.passes},    {"tokens", window.tokens},
               {"rounds", nullptr},          {"disturbed", window.disturbed},
               {"noisy", window.noisy()}};
  json.update(figure_json(window.report.total, idle));
  const auto tokens = static_cast<double>(window.tokens);
  json["joules_per_token"] = per_unit(json, "joules", tokens);
  json["net_joules_per_token"] = per_unit(json, "net_joules", tokens);
  if (!window.round_joules.empty()) {
    json["rounds"] = spread_json(spread_of(window.round_joules));
    json["rounds"]["count"] = window.round_joules.size();
  }
  json["parts"] = Json::array();
  for (const EnergyFigure& part : window.report.parts)
    json["parts"].push_back(figure_json(part, idle));
  return json;
}

// Of the first window of this work; `tokens_of` of them are one unit.
Json unit_json(const Json& windows, const std::string& work, bool request) {
  for (const Json& window : windows) {
    if (window["work"] != work || !window["joules"].is_number()) continue;
    const double size =
        request ? window["n_prompt"].get<double>() + window["n_gen"].get<double>() : 1;
    const double units = window["tokens"].get<double>() / size;
    Json json = {{"gross", per_unit(window, "joules", units)},
                 {"net", per_unit(window, "net_joules", units)},
                 {"noisy", window["noisy"]}};
    for (const char* key : {"mean", "stddev", "min", "max"}) {
      const bool there = window["rounds"].is_object() && window["rounds"][key].is_number();
      json[key] = there ? Json(window["rounds"][key].get<double>() * size) : Json(nullptr);
    }
    return json;
  }
  return nullptr;
}

Json idle_json(const IdleBaseline& idle, const std::optional<EnergyFigure>& total) {
  if (!total || (!idle.before && !idle.after)) return nullptr;
  const auto watts = [&](const std::optional<EnergyReport>& report) {
    IdleBaseline one{report, {}};
    return number_json(one.watts(*total));
  };
  const EnergyReport& known = idle.before ? *idle.before : *idle.after;
  return {{"before_watts", watts(idle.before)},
          {"after_watts", watts(idle.after)},
          {"watts", number_json(idle.watts(*total))},
          {"seconds", known.total ? number_json(known.total->seconds) : Json(nullptr)}};
}

}  // namespace

Json energy_json(const EnergyCost& cost) {
  // Named as in a window: devices and methods of single windows, not of their sum.
  const std::optional<EnergyFigure> total = total_energy(cost.windows);
  Json json = figure_json(total, cost.idle);
  json["windows"] = Json::array();
  std::vector<std::string> reasons;
  const auto add_reasons = [&](const EnergyReport& report) {
    for (const std::string& reason : report.reasons) {
      if (std::find(reasons.begin(), reasons.end(), reason) == reasons.end())
        reasons.push_back(reason);
    }
  };
  for (const EnergyWindow& window : cost.windows) {
    json["windows"].push_back(window_json(window, cost.idle));
    add_reasons(window.report);
  }
  if (cost.idle.before) add_reasons(*cost.idle.before);
  if (cost.idle.after) add_reasons(*cost.idle.after);
  json["joules_per_prompt_token"] = unit_json(json["windows"], "prefill", false);
  json["joules_per_generated_token"] = unit_json(json["windows"], "decode", false);
  json["joules_per_request"] = unit_json(json["windows"], "request", true);
  json["idle"] = idle_json(cost.idle, total);
  json["counters"] = Json::array();
  for (const CounterInfo& counter : cost.counters) {
    json["counters"].push_back({{"device", counter.device},
                                {"method", counter.method},
                                {"step_seconds", number_json(counter.step.seconds)},
                                {"step_joules", number_json(counter.step.joules)}});
  }
  json["reasons"] = reasons;
  json["seconds_per_work"] = number_json(cost.plan.seconds);
  json["rounds"] = cost.plan.rounds;
  json["cooldown"] = {{"seconds", number_json(cost.plan.cooldown_seconds)},
                      {"rested_seconds", number_json(cost.rested_seconds)}};
  return json;
}

}  // namespace qwb
