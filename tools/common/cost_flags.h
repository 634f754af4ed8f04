// Flags of what a model costs: speed, memory, energy.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "lib/evaluate/session.h"
#include "tools/common/meter_flags.h"
#include "tools/common/tool.h"

namespace qwb {

struct CostFlags {
  bool speed = false;
  std::vector<int64_t> prompts, generates, depths;
  int64_t repetitions = 5;
  std::string output;
  bool energy = false;
  MeterFlags meter;
  double idle = 10;
  double energy_seconds = 10;
  double cooldown = 0;
};

void add_cost_flags(CLI::App& app, CostFlags& flags);
// Throws usage for flags that have no meaning together.
void check_cost_flags(const CostFlags& flags, bool json, bool reads_records);
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
