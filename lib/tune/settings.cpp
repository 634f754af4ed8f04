#include "lib/tune/settings.h"

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"

namespace qwb {

Json TuneSettings::json() const {
  return {{"rank", rank},
          {"alpha", alpha},
          {"rslora", rslora},
          {"dropout", dropout},
          {"init", gaussian ? "gaussian" : "default"},
          {"targets", targets},
          {"length", length},
          {"loss", completions ? "completions" : "all"},
          {"prompt_weight", prompt_weight},
          {"pack", pack},
          {"holdout", holdout},
          {"epochs", epochs},
          {"steps", steps},
          {"lr", rate},
          {"schedule", schedule_name(schedule)},
          {"warmup", warmup},
          {"batch", batch},
          {"clip", clip},
          {"weight_decay", weight_decay},
          {"beta1", beta1},
          {"beta2", beta2},
          {"eps", eps},
          {"optimizer", eight_bit ? "adamw8" : "adamw"},
          {"lora_plus", lora_plus},
          {"neftune", neftune},
          {"seed", seed}};
}

Schedule parse_schedule(const std::string& text) {
  for (const Schedule schedule : {Schedule::linear, Schedule::constant, Schedule::cosine}) {
    if (text == schedule_name(schedule)) return schedule;
  }
  throw Error(ErrorKind::usage, "there is no schedule '" + text + "'", "--schedule",
              "linear, constant or cosine");
}

const char* schedule_name(Schedule schedule) {
  if (schedule == Schedule::linear) return "linear";
  return schedule == Schedule::constant ? "constant" : "cosine";
}

void check_settings(const TuneSettings& s) {
  const auto check = [](bool fits, const char* flag, const char* range) {
    if (!fits) throw Error(ErrorKind::usage, std::string(flag) + " must be " + range);
  };
  check(s.rank >= 1 && s.rank <= 4096, "--rank", "from 1 to 4096");
  check(std::isfinite(s.alpha) && s.alpha > 0, "--alpha", "above 0");
  check(s.dropout >= 0 && s.dropout < 1, "--dropout", "from 0 to below 1");
  check(s.length >= 2, "--length", "at least 2");
  check(s.prompt_weight >= 0 && s.prompt_weight <= 1, "--prompt-weight", "from 0 to 1");
  check(s.holdout >= 0, "--holdout", "at least 0");
  check(std::isfinite(s.epochs) && s.epochs > 0, "--epochs", "above 0");
  check(s.steps >= 0, "--steps", "at least 1");
  check(std::isfinite(s.rate) && s.rate > 0, "--lr", "above 0");
  check(s.warmup >= 0 && s.warmup <= 1, "--warmup", "from 0 to 1");
  check(s.batch >= 1, "--batch", "at least 1");
  check(std::isfinite(s.clip) && s.clip >= 0, "--clip", "at least 0");
  check(std::isfinite(s.weight_decay) && s.weight_decay >= 0, "--weight-decay", "at least 0");
  check(s.beta1 >= 0 && s.beta1 < 1 && s.beta2 >= 0 && s.beta2 < 1, "--beta1 and --beta2",
        "from 0 to below 1");
  check(s.eps > 0 && std::isfinite(s.eps), "--eps", "above 0");
  check(std::isfinite(s.lora_plus) && s.lora_plus > 0, "--lora-plus", "above 0");
  check(std::isfinite(s.neftune) && s.neftune >= 0, "--neftune", "at least 0");
}

void apply_preset(const std::string& name, TuneSettings& s) {
  if (name == "qlora") {
    s.rank = 64, s.alpha = 16, s.dropout = 0.1;
    s.schedule = Schedule::constant, s.clip = 0.3, s.rate = 2e-4;
  } else if (name == "lima") {
    s.epochs = 15, s.beta2 = 0.95, s.batch = 64, s.rate = 1e-4;
    s.schedule = Schedule::linear, s.warmup = 0;
  } else {
    throw Error(ErrorKind::usage, "there is no preset '" + name + "'", "--preset", "qlora or lima");
  }
}

double rate_of(const TuneSettings& s, int64_t step, int64_t total) {
  const int64_t warm =
      static_cast<int64_t>(std::ceil(s.warmup * static_cast<double>(total) - 1e-9));
  if (step <= warm) return s.rate * static_cast<double>(step) / static_cast<double>(warm);
  if (s.schedule == Schedule::constant || total == warm) return s.rate;
  constexpr double kLeft = 0.1;
  const double done = static_cast<double>(step - warm - 1) /
                      static_cast<double>(std::max<int64_t>(1, total - warm - 1));
  const double falls = s.schedule == Schedule::linear
                           ? 1 - done
                           : 0.5 * (1 + std::cos(3.14159265358979323846 * done));
  return s.rate * (kLeft + (1 - kLeft) * falls);
}

}  // namespace qwb
