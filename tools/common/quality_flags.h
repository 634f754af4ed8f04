// Flags of qwb-eval that tell what was lost: perplexity, divergence, tasks, and the gate on them.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lib/evaluate/quality.h"
#include "tools/common/tool.h"

namespace qwb {

struct QualityFlags {
  bool ppl = false;
  bool kl = false;
  bool no_baseline = false;
  bool fresh = false;
  std::string protocol = "windows";
  std::string text;
  std::string baseline;
  int64_t context = 0;
  int64_t stride = 0;
  int64_t windows = 0;
  std::vector<std::string> tasks;
  std::string lm_eval_json;
  std::optional<double> max_kl;
  std::optional<double> max_ratio;
  int64_t max_bytes = 0;  // 0: not given
};

void add_quality_flags(CLI::App& app, QualityFlags& flags);

// What to measure, texts apart. Perplexity too if `nothing_else` is asked for. Throws usage
// for flags that do not go together.
QualityOptions quality_options(const QualityFlags& flags, bool nothing_else, Tool& tool);

// Why the record does not pass the gate, one reason each; empty if it passes. What the gate needs
// and was not measured is a reason too. `is_original`: --baseline or another model of this run says
// that the others are compared with this one.
std::vector<std::string> gate_failures(const QualityFlags& flags, const QualityRecord& record,
                                       int64_t bytes, bool is_original);

// --lm-eval-json: the tasks' results, atomically. Throws as opening the model and writing do.
void write_lm_eval_json(const Path& file, const Path& model, const QualityRecord& record,
                        bool replace, const Context& context);

}  // namespace qwb
