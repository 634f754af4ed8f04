// Measures the joules of every cell of a speed grid. Each cell runs for a set time, in several
// rounds. With several models the rounds alternate (A B A B), so that a machine that warms up, or
// does other work for a while, is not charged to one of them. Idle power is measured before and
// after, with all models loaded.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/evaluate/disturbance.h"
#include "lib/evaluate/energy/energy.h"
#include "lib/evaluate/speed.h"

namespace qwb {

// Of idle power: two idle windows of a quiet machine differ by less, and a processor that comes
// from minutes of work leaks more.
inline constexpr double kIdleAgain = 1.05;

// Energy of one piece of work, over all its rounds.
struct EnergyWindow {
  std::string work;  // "prefill", "decode", "request" (a prompt and its answer) or "perplexity"
  SpeedTest test;    // what a pass is; nothing of a perplexity
  int64_t passes = 1;
  int64_t tokens = 0;  // of all passes
  EnergyReport report;
  std::vector<double> round_joules;  // per token in each round; empty if one has no figure
  int64_t disturbed = 0;  // rounds that lost more than kDisturbed of their processor time and were
                          // made again (disturbance.h)
  double lost_share = 0;  // the most that a round which counts lost
  bool noisy() const { return lost_share > kDisturbed; }  // it stayed so: no conclusion holds
};

struct IdleBaseline {
  std::optional<EnergyReport> before, after;

  // Idle power of what this figure measures: the mean of before and after, or the one there is.
  // Nothing for an estimate.
  std::optional<double> watts(const EnergyFigure& figure) const;
  // gross - idle watts x seconds. Nothing without a baseline, or if that is not above zero.
  std::optional<double> net_joules(const EnergyFigure& figure) const;
};

struct ArtifactEnergy {
  std::vector<EnergyWindow> windows;
  IdleBaseline idle;
  double rested_seconds = 0;  // before this model's turns, all rounds together
};

// Idles for the plan's seconds and returns the energy of that time; nothing without a counter, or
// if the plan asks for no idle time.
std::optional<EnergyReport> measure_idle(EnergyMeter& meter, const EnergyPlan& plan,
                                         const Context& context);

// Rests as the plan says and returns the seconds, none without a counter. `idle`: measured before
// any work.
double cool_down(EnergyMeter& meter, const EnergyPlan& plan, const IdleBaseline& idle,
                 const StopToken& stop = {});

// Reports of the same work one after the other, as one: joules and seconds add up. A value that one
// of them lacks is missing in the sum.
EnergyReport add_reports(const std::vector<EnergyReport>& reports);

// One result for each model: its cells of the grid, and after them a request of the grid's first
// prompt and generation where it has both. A measured round that is disturbed is made again at
// once, up to `patience` times in all, and the least disturbed one counts. Throws usage for a plan
// that makes no sense.
std::vector<ArtifactEnergy> measure_energy(const std::vector<const Model*>& models,
                                           const SpeedGrid& grid, EnergyMeter& meter,
                                           const EnergyPlan& plan, CpuWatch& watch,
                                           const Context& context);

// The total over windows: joules and seconds add up; its method, device, domain, quality and remark
// are those of the windows, "estimated" if any of them is. Nothing if a window has no figure.
std::optional<EnergyFigure> total_energy(const std::vector<EnergyWindow>& windows);

}  // namespace qwb
