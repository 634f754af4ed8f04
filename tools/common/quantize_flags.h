// The flags that say which artifact is wanted: those of qwb-quantize, and of qwb-cache why, which
// must mean the same.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>

#include "lib/jobs/quantize_job.h"
#include "tools/common/method_flags.h"
#include "tools/common/tool.h"

namespace qwb {

class QuantizeFlags {
 public:
  // Adds --model, --device, --method, the parameters of all methods, the plan's and the calibration
  // flags.
  explicit QuantizeFlags(CLI::App& app);
  // What the command line asks for. Tells decisions through `tool`. Throws usage and not_found.
  QuantizeRequest request(Tool& tool) const;

 private:
  void add_plan_flags(CLI::App& app);
  void add_calibration_flags(CLI::App& app);
  PlanRequest plan() const;
  CalibrationRequest calibration() const;

  std::string model_, method_ = "gptq", plan_, device_ = "cpu";
  std::vector<std::string> include_, exclude_, calib_;
  bool lm_head_ = false, embeddings_ = false;
  int64_t samples_ = 128, length_ = 0;
  uint64_t seed_ = 0;
  bool documents_ = false, chat_template_ = false;
  CLI::Option *chosen_ = nullptr, *seeded_ = nullptr;
  std::vector<CLI::Option*> window_options_;  // those that say how calibration windows are made
  std::unique_ptr<MethodFlags> parameters_;
};

}  // namespace qwb
