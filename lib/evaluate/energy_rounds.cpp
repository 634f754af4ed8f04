#include "lib/evaluate/energy_rounds.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "lib/base/error.h"
#include "lib/evaluate/energy/nvml.h"

namespace qwb {
namespace {

// Adds `word` to a list of different words.
void collect(std::string& list, const std::string& word, const char* separator) {
  if (word.empty() || list == word || list.find(separator + word) != std::string::npos ||
      list.starts_with(word + separator))
    return;
  list += (list.empty() ? "" : separator) + word;
}

bool same_device(const EnergyFigure& a, const EnergyFigure& b) {
  return a.method == b.method && a.device == b.device && a.domain == b.domain;
}

// The figure of the same device in a report; null without.
const EnergyFigure* find_figure(const EnergyReport& report, const EnergyFigure& figure) {
  if (report.total && same_device(*report.total, figure)) return &*report.total;
  for (const EnergyFigure& part : report.parts) {
    if (same_device(part, figure)) return &part;
  }
  return nullptr;
}

// `sum` += `figure` of the same device, or of another piece of work.
void add_figure(EnergyFigure& sum, const EnergyFigure& figure) {
  const bool first = sum.seconds == 0;
  const bool integrated = figure.integrated_joules && (first || sum.integrated_joules);
  sum.joules += figure.joules;
  sum.seconds += figure.seconds;
  sum.watts = sum.seconds > 0 ? sum.joules / sum.seconds : 0;
  if (integrated) {
    sum.integrated_joules = sum.integrated_joules.value_or(0) + *figure.integrated_joules;
  } else {
    sum.integrated_joules.reset();
  }
  if (first) {
    sum.celsius_begin = figure.celsius_begin;
    sum.power_limit_watts = figure.power_limit_watts;
  }
  sum.celsius_end = figure.celsius_end;
  if (sum.power_limit_watts != figure.power_limit_watts) sum.power_limit_watts.reset();
  collect(sum.method, figure.method, "+");
  collect(sum.device, figure.device, "+");
  collect(sum.domain, figure.domain, "+");
  if (sum.quality != "estimated") sum.quality = figure.quality;
}

std::optional<EnergyFigure> add_figures(const std::vector<EnergyReport>& reports,
                                        const EnergyFigure& like) {
  EnergyFigure sum;
  for (const EnergyReport& report : reports) {
    const EnergyFigure* figure = find_figure(report, like);
    if (figure == nullptr) return std::nullopt;
    add_figure(sum, *figure);
    const bool judged_whole = figure->integrated_joules.has_value();
    if (!judged_whole && (figure->quality != "estimated" || reports.size() == 1))
      collect(sum.remark, figure->remark, "; ");
  }
  collect(sum.remark, power_disagreement(sum), "; ");
  return sum;
}

}  // namespace

std::optional<double> IdleBaseline::watts(const EnergyFigure& figure) const {
  if (figure.quality != "measured") return std::nullopt;
  std::vector<double> found;
  for (const auto* report : {&before, &after}) {
    const EnergyFigure* idle = *report ? find_figure(**report, figure) : nullptr;
    if (idle != nullptr) found.push_back(idle->watts);
  }
  if (found.empty()) return std::nullopt;
  return (found.front() + found.back()) / 2;
}

std::optional<double> IdleBaseline::net_joules(const EnergyFigure& figure) const {
  const std::optional<double> idle = watts(figure);
  const double net = idle ? figure.joules - *idle * figure.seconds : 0;
  return net > 0 ? std::optional(net) : std::nullopt;
}

EnergyReport add_reports(const std::vector<EnergyReport>& reports) {
  EnergyReport sum;
  if (reports.empty()) return sum;
  for (const EnergyReport& report : reports) {
    for (const std::string& reason : report.reasons) {
      if (std::find(sum.reasons.begin(), sum.reasons.end(), reason) == sum.reasons.end())
        sum.reasons.push_back(reason);
    }
  }
  for (const EnergyFigure& part : reports.front().parts) {
    if (const auto added = add_figures(reports, part)) sum.parts.push_back(*added);
  }
  if (reports.front().total) sum.total = add_figures(reports, *reports.front().total);
  if (!sum.total && reports.front().total)
    sum.reasons.push_back("the rounds of a work were measured in different ways and have no sum");
  return sum;
}

std::optional<EnergyFigure> total_energy(const std::vector<EnergyWindow>& windows) {
  EnergyFigure total;
  for (const EnergyWindow& window : windows) {
    if (!window.report.total) return std::nullopt;
    const EnergyFigure& figure = *window.report.total;
    add_figure(total, figure);
    if (figure.quality != "estimated" || windows.size() == 1)
      collect(total.remark, figure.remark, "; ");
  }
  if (windows.empty()) return std::nullopt;
  return total;
}

std::optional<EnergyReport> measure_idle(EnergyMeter& meter, const EnergyPlan& plan,
                                         const Context& context) {
  if (!meter.measures() || plan.idle_seconds <= 0) return std::nullopt;
  const double seconds = std::max(plan.idle_seconds, meter.seconds_for_steps(plan.steps));
  const auto tenths = static_cast<int64_t>(std::ceil(seconds * 10));
  context.progress->begin("idle power", tenths);
  meter.start();
  for (int64_t i = 0; i < tenths; ++i) {
    context.stop.check();
    std::this_thread::sleep_for(
        std::chrono::duration<double>(seconds / static_cast<double>(tenths)));
    context.progress->advance(1, "");
  }
  EnergyReport report = meter.stop();
  context.progress->end();
  return report;
}

double cool_down(EnergyMeter& meter, const EnergyPlan& plan, const IdleBaseline& idle,
                 const StopToken& stop) {
  if (!meter.measures() || plan.cooldown_seconds <= 0) return 0;
  constexpr double kLook = 0.5;  // seconds of a look at the power, at least
  const double look = std::max(kLook, meter.seconds_for_steps(plan.steps)), begin = meter.now();
  const double latest = begin + plan.cooldown_seconds;
  while (meter.now() < latest) {
    meter.start();
    const double end = std::min(meter.now() + look, latest);
    while (meter.now() < end) {
      stop.check();
      std::this_thread::sleep_for(
          std::chrono::duration<double>(std::clamp(end - meter.now(), 0.001, 0.1)));
    }
    const EnergyReport report = meter.stop();
    const auto quiet = report.total ? idle.watts(*report.total) : std::nullopt;
    if (quiet && report.total->watts <= kIdleAgain * *quiet) break;
  }
  return meter.now() - begin;
}

namespace {

// One cell of one model, through all rounds.
struct Work {
  const Model* model;
  EnergyWindow window;
  std::vector<EnergyReport> rounds;
  std::vector<CpuShares> shares;  // of them
  double best_own = 0;            // of all, also those that do not count
};

std::string work_name(const SpeedTest& test) {
  if (test.n_gen == 0) return "prefill";
  return test.n_prompt == 0 ? "decode" : "request";
}

std::vector<Work> works_of(const Model& model, const SpeedGrid& grid) {
  std::vector<SpeedTest> tests = speed_tests(grid, model.config());
  SpeedTest request{0, 0, tests.front().n_depth};
  for (const SpeedTest& test : tests) {
    if (request.n_prompt == 0) request.n_prompt = test.n_prompt;
    if (request.n_gen == 0) request.n_gen = test.n_gen;
  }
  // Both sizes may be the model's limit: the prompt then makes room for its answer.
  const int64_t room = model.config().max_positions - request.n_depth;
  request.n_prompt = std::min(request.n_prompt, room - request.n_gen);
  if (request.n_prompt > 0 && request.n_gen > 0) tests.push_back(request);
  std::vector<Work> works;
  for (const SpeedTest& test : tests) {
    EnergyWindow window;
    window.work = work_name(test);
    window.test = test;
    window.passes = 0;
    works.push_back({&model, window, {}, {}, 0});
  }
  return works;
}

struct EnergyRound {
  EnergyReport report;
  int64_t passes = 0;
  CpuShares shares;
};

// Passes until the window is long enough.
EnergyRound timed_round(SpeedRunner& runner, EnergyMeter& meter, double enough, CpuWatch& watch,
                        const Context& context) {
  EnergyRound round;
  const CpuMoment first = watch.now();
  meter.start();
  const double begin = meter.now();
  do {
    context.stop.check();
    runner.pass();
    ++round.passes;
  } while (meter.now() - begin < enough);
  round.report = meter.stop();
  round.shares = shares_between(first, watch.now(), context.threads.count());
  return round;
}

// One pass if nothing is measured but the estimate's own seconds.
void run_round(Work& work, EnergyMeter& meter, const EnergyPlan& plan, CpuWatch& watch,
               const Context& context) {
  SpeedRunner runner(*work.model, work.window.test, 0, context.stop);
  runner.pass();  // warm-up: the weights of another model were read since the last round
  const double enough =
      meter.measures() ? std::max(plan.seconds / plan.rounds, meter.seconds_for_steps(plan.steps))
                       : 0;
  const auto lost = [&](const EnergyRound& round) {
    return lost_share(round.shares, work.best_own);
  };
  EnergyRound best = timed_round(runner, meter, enough, watch, context);
  work.best_own = std::max(work.best_own, best.shares.own);
  for (int made = 1; meter.measures() && lost(best) > kDisturbed; ++made) {
    ++work.window.disturbed;
    if (made >= plan.patience) break;
    EnergyRound again = timed_round(runner, meter, enough, watch, context);
    work.best_own = std::max(work.best_own, again.shares.own);
    if (lost(again) < lost(best)) best = std::move(again);
  }
  work.shares.push_back(best.shares);
  work.rounds.push_back(std::move(best.report));
  work.window.passes += best.passes;
  work.window.tokens += best.passes * work.window.test.tokens();
  if (const auto& total = work.rounds.back().total)
    work.window.round_joules.push_back(
        total->joules / static_cast<double>(best.passes * work.window.test.tokens()));
}

// Rounds that differ by more than the plan allows: the machine did something else, or is warming
// up.
bool unsteady(const std::vector<std::vector<Work>>& works, const EnergyPlan& plan) {
  for (const auto& of_model : works) {
    for (const Work& work : of_model) {
      if (work.window.round_joules.empty()) continue;  // nothing was measured: longer will not help
      const Spread spread = spread_of(work.window.round_joules);
      if (spread.deviation > plan.deviation * spread.mean) return true;
    }
  }
  return false;
}

void check_plan(const EnergyPlan& plan) {
  const auto sane = [](double seconds) { return seconds >= 0 && seconds <= 86400; };
  if (plan.rounds < 1 || !sane(plan.seconds) || !sane(plan.idle_seconds) ||
      !sane(plan.cooldown_seconds))
    throw Error(ErrorKind::usage,
                "energy is measured for 0 to 86400 seconds in at least one round");
}

}  // namespace

std::vector<ArtifactEnergy> measure_energy(const std::vector<const Model*>& models,
                                           const SpeedGrid& grid, EnergyMeter& meter,
                                           const EnergyPlan& plan, CpuWatch& watch,
                                           const Context& context) {
  check_plan(plan);
  std::vector<std::vector<Work>> works;
  int64_t cells = 0;
  for (const Model* model : models) {
    works.push_back(works_of(*model, grid));
    cells += static_cast<int64_t>(works.back().size());
  }
  IdleBaseline idle;
  std::vector<double> rested(works.size());
  idle.before = measure_idle(meter, plan, context);
  context.progress->begin("energy", cells * plan.rounds);
  // Unsteady work is measured longer, for all models, so that each has the same share of the time.
  const int most = meter.measures() ? plan.rounds * std::max(1, plan.patience) : plan.rounds;
  for (int round = 0; round < plan.rounds || (round < most && unsteady(works, plan)); ++round) {
    if (round >= plan.rounds)
      context.progress->note(fmt::format("energy: the rounds differ; round {}", round + 1));
    for (size_t model = 0; model < works.size(); ++model) {
      if (works.size() > 1 && round + model > 0) {
        if (plan.cooldown_seconds > 0)
          context.progress->advance(
              0, fmt::format("round {}, model {}: cooling down", round + 1, model + 1));
        rested[model] += cool_down(meter, plan, idle, context.stop);
      }
      for (Work& work : works[model]) {
        run_round(work, meter, plan, watch, context);
        context.progress->advance(1, fmt::format("round {}, model {}: {}", round + 1, model + 1,
                                                 work.window.test.name()));
      }
    }
  }
  context.progress->end();
  idle.after = measure_idle(meter, plan, context);
  std::vector<ArtifactEnergy> results;
  for (size_t model = 0; model < works.size(); ++model) {
    ArtifactEnergy result{{}, idle, rested[model]};
    for (Work& work : works[model]) {
      work.window.report = add_reports(work.rounds);
      if (meter.measures()) {
        for (const CpuShares& shares : work.shares)
          work.window.lost_share =
              std::max(work.window.lost_share, lost_share(shares, work.best_own));
      }
      if (work.window.round_joules.size() < work.rounds.size()) work.window.round_joules.clear();
      result.windows.push_back(std::move(work.window));
    }
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace qwb
