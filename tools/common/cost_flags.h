// Flags of what a model costs: speed, memory, energy.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lib/evaluate/session.h"
#include "tools/common/tool.h"

namespace qwb {

struct CostFlags {
  bool speed = false;
  std::vector<int64_t> prompts, generates, depths;
  int64_t repetitions = 5;
  std::string output;
  bool energy = false;
  std::optional<double> watts;
  std::string meter;
  double idle = 10;
  double energy_seconds = 10;
  bool fresh = false;
};

void add_cost_flags(CLI::App& app, CostFlags& flags);
// Throws usage for flags that have no meaning together.
void check_cost_flags(const CostFlags& flags, bool json, bool reads_records);
// Also takes QWB_POWERCAP (a folder in place of /sys/class/powercap, for containers that have it elsewhere)
// and QWB_NVML (a library in place of libnvidia-ml.so.1) from the environment.
void apply_cost_flags(const CostFlags& flags, EvaluationOptions& options);

// Cells of a table, from a record: "12.3 J/token (rapl-powercap)", "n/a", or "-" where none was asked for;
// weights, KV cache and the rest as allocated.
std::string energy_cell(const Json& record);
std::string memory_cell(const Json& record);
// What does not fit the table: the memory ledger, joules of every work, doubts and reasons.
void narrate_costs(const Json& record, Tool& tool);
// Every test of the grid, if there is more than one of each kind: a table of its own; else "".
std::string grid_text(const std::vector<Json>& records, bool color);

}  // namespace qwb
