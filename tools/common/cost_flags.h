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
  double cooldown = 0;
};

void add_cost_flags(CLI::App& app, CostFlags& flags);
// Throws usage for flags that have no meaning together.
void check_cost_flags(const CostFlags& flags, bool json, bool reads_records);
// Also takes QWB_POWERCAP (a folder in place of /sys/class/powercap, for containers that have it
// elsewhere) and QWB_NVML (a library in place of libnvidia-ml.so.1) from the environment.
void apply_cost_flags(const CostFlags& flags, EvaluationOptions& options);

// A cell of a table, from a record: "12.3 J/token (rapl-powercap)", "n/a", or "-" where none was
// asked for.
std::string energy_cell(const Json& record);
// What does not fit the table: the memory ledger, joules of every work, doubts and reasons.
void log_costs(const Json& record, Tool& tool);
// A row for every test of the record's grid. True if it has more than the usual two, and so needs a
// table of its own: grid_text.
bool add_grid_rows(const Json& record, std::vector<std::vector<std::string>>& rows);
std::string grid_text(const std::vector<std::vector<std::string>>& rows, bool color);

}  // namespace qwb
