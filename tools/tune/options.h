// The command line of qwb-tune.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "lib/jobs/tune_job.h"

namespace qwb {

struct TuneOptions {
  std::string model, data, out, preset, schedule, loss, optimizer, init, recompute, compute, pack;
  std::string chat_template;
  TuneRequest request;
  bool no_resume = false;
};

void add_tune_options(CLI::App& app, TuneOptions& options);
// The words of the flags become the request's settings; a preset stands behind the flags that were
// given. Throws usage for a word that there is not.
void apply_tune_options(const CLI::App& app, TuneOptions& options);
// --compute. Throws usage.
bool computes_in_bf16(const TuneOptions& options);

}  // namespace qwb
