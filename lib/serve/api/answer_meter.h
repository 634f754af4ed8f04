// The joules of single answers, by the meters and rules of lib/evaluate/energy: a figure names its
// source and quality, and what could not be measured is null with the reason.
//
// Meters see whole devices, so a figure belongs to one answer only if nothing else ran meanwhile.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/json.h"
#include "lib/evaluate/energy/energy.h"
#include "lib/evaluate/energy_rounds.h"
#include "lib/serve/engine/engine.h"

namespace qwb::serve {

// Two windows, one of the whole answer and one of its prompt: their difference is the answer's
// decoding.
class AnswerMeter {
 public:
  // Watches the counters and, where there are some, `idle_seconds` of idle power: nothing else
  // should run. Throws what EnergyMeter throws, and an interrupt.
  AnswerMeter(const EnergyOptions& options, double idle_seconds, const Context& context);

  // Opens both windows; the number of this measurement. 0: they are open for another answer.
  int64_t begin(const EngineLoad& load);
  // The prompt has been read. Does nothing once that measurement is over.
  void prefill_ended(int64_t measurement);
  // Closes them. `own`: requests that the answer made of the engine since begin().
  //   {"joules", "net_joules", "method", "device", "domain", "quality", "seconds", "watts",
  //    "remark", "reason", "short", "least_seconds",
  //    "prefill": {"joules", "seconds", "reason"},
  //    "decode": {"joules", "seconds", "joules_per_token", "reason"}}
  // joules are null where a measured window is shorter than 50 steps of the slowest counter
  // ("short": the joules that it shows all the same, for sums over several answers), or where other
  // requests ran beside it. joules_per_token: of the tokens that were decoded, all but the first.
  Json end(const EngineLoad& load, int64_t own, const JobCounts& counts);
  // Closes them: one figure for each of the answers that ran at once, its part of all joules by the
  // time that the engine was busy with it; "quality" is then "shared, estimated".
  std::vector<Json> end_shared(const EngineLoad& load, int64_t own,
                               const std::vector<JobCounts>& answers);
  // Closes them and forgets what they saw.
  void drop();
  // {"measures", "counters": [{"device", "method", "step_seconds"}], "idle_watts", "least_seconds",
  //  "reasons"}
  const Json& about() const { return about_; }

 private:
  struct Closed {
    EnergyReport whole;
    std::optional<EnergyReport> prefill;
    bool alone = true;
  };
  Closed close(const EngineLoad& load, int64_t own);
  Json figure_json(const EnergyFigure& figure) const;
  bool too_short(const EnergyFigure& figure) const;
  void add_parts(Json& json, const Closed& closed, const JobCounts& counts) const;

  std::mutex mutex_;
  EnergyMeter whole_, prefill_;
  IdleBaseline idle_;
  double least_seconds_ = 0;
  Json about_;
  int64_t measurement_ = 0;  // the last
  bool open_ = false, reading_ = false;
  std::optional<EnergyReport> prompt_;  // of the prompt, once it was read
  EngineLoad before_;
};

// null joules and why.
Json no_energy(const std::string& reason);

// The windows of one request of the OpenAI routes, from here to end() or to the end of this.
class MeteredRequest {
 public:
  // Null without a meter, while it measures another, or while the engine has other work: such
  // requests are told no joules.
  static std::unique_ptr<MeteredRequest> begin(std::shared_ptr<AnswerMeter> meter,
                                               const Engine& engine);
  ~MeteredRequest();
  MeteredRequest(const MeteredRequest&) = delete;
  MeteredRequest& operator=(const MeteredRequest&) = delete;
  void prefill_ended() { meter_->prefill_ended(measurement_); }
  // As AnswerMeter::end(); once.
  Json end(const JobCounts& counts);
  // Nobody is told the joules. Once, in place of end().
  void drop();

 private:
  MeteredRequest(std::shared_ptr<AnswerMeter> meter, const Engine& engine, int64_t measurement)
      : meter_(std::move(meter)), engine_(engine), measurement_(measurement) {}
  std::shared_ptr<AnswerMeter> meter_;
  const Engine& engine_;
  const int64_t measurement_;
  bool open_ = true;
};

}  // namespace qwb::serve
