// What is measured of a model, and how.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/open_model.h"
#include "lib/base/file.h"
#include "lib/evaluate/energy/options.h"
#include "lib/evaluate/protocols.h"
#include "lib/evaluate/tasks/task.h"
#include "lib/evaluate/text.h"
#include "lib/exec/devices.h"
#include "lib/model/int8_forward.h"

namespace qwb {

class ResultKeeper;

struct QualityOptions {
  bool perplexity = true;
  bool divergence = false;
  std::vector<TaskOptions> tasks;
  bool compare = true;                // with the unquantized model
  std::optional<Path> baseline = {};  // which it is; else the one that the artifact names
  EvaluationText text;                // of perplexity and divergence
  ProtocolOptions protocol;
  bool fresh = false;                              // measure what is kept, again
  std::shared_ptr<ResultKeeper> keeper = nullptr;  // null: keep nothing
  // Runs the unquantized model; null: the fast one on the processor.
  std::shared_ptr<const Executor> base_executor = nullptr;
};

// Every prompt and every generation at every depth; 0 among prompts or generations: none of them.
// An empty list stands for 512, 128 or 0, or what the model takes if that is less.
struct SpeedGrid {
  std::vector<int64_t> prompts, generates, depths;
};

struct SpeedOptions {
  SpeedGrid grid;
  int64_t repetitions = 5;  // after one warm-up that does not count
};

struct EnergyPlan {
  double seconds = 10;  // of work for every cell, over all rounds
  int rounds = 3;
  int steps = 50;            // of every counter in a window, at least: a step more or less is 2 %
  double idle_seconds = 10;  // before and after; 0: none
  // Where the joules per token of the rounds deviate by more than this share, up to `patience`
  // times as many rounds are made.
  double deviation = 0.03;
  int patience = 2;
  // Rest before another model's work: until the power is again at most kIdleAgain times the idle
  // power, and no longer than this. Without idle power: this long. 0: none.
  double cooldown_seconds = 0;
};

struct EvaluationOptions {
  QualityOptions quality;
  bool speed = false;
  bool energy = false;       // of the speed's work and of the perplexity's
  Int8Forward int8_forward;  // of int8 modules
  DeviceChoice device;       // that everything runs on, as choose_device() leaves it
  SpeedOptions speed_options;
  EnergyOptions energy_options;
  EnergyPlan energy_plan;
  // LoadOptions::attach of the models that are measured, not of what they are compared with.
  std::function<Json(const OpenModel& open, Model& model)> attach = nullptr;
  std::string version;  // of this program, for records
};

}  // namespace qwb
