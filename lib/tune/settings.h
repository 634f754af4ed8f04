// How an adapter is tuned.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/json.h"

namespace qwb {

enum class Schedule { linear, constant, cosine };  // the first and last to a tenth of the rate

struct TuneSettings {
  // The factors.
  int64_t rank = 16;
  double alpha = 32;
  bool rslora = false;  // scale alpha / sqrt(rank)
  double dropout = 0;
  bool gaussian = false;  // A ~ N(0, 1 / rank) instead of U(-1, 1) / sqrt(in); B = 0 either way
  std::vector<std::string> targets = {"all-linear"};  // patterns (module_pattern.h)
  // The data.
  int64_t length = 2048;
  bool completions = true;  // the loss of what assistants wrote alone
  double prompt_weight = 0;
  bool pack = true;
  int64_t holdout = 50;  // documents
  // The optimizer.
  double epochs = 3;
  int64_t steps = 0;  // in place of epochs; 0: not given
  double rate = 2e-4;
  Schedule schedule = Schedule::linear;
  double warmup = 0.03;  // of all steps
  int64_t batch = 16;    // documents a step
  double clip = 1;       // of the gradient's norm; 0: not
  double weight_decay = 0;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  bool eight_bit = false;  // the optimizer's moments
  double lora_plus = 1;    // rate of B over that of A
  double neftune = 0;
  uint64_t seed = 0;

  // All that a result depends on, for keys and records.
  Json json() const;
};

// The words of --schedule. Throws usage.
Schedule parse_schedule(const std::string& text);
const char* schedule_name(Schedule schedule);
// Throws usage, naming what is out of its range.
void check_settings(const TuneSettings& settings);
// "qlora" (arXiv 2305.14314) or "lima" (2305.11206, its rate for adapters our guess). Throws usage.
void apply_preset(const std::string& name, TuneSettings& settings);

// The rate of step 1..total.
double rate_of(const TuneSettings& settings, int64_t step, int64_t total);

}  // namespace qwb
