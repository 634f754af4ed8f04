// --adapter: LoRA adapters beside the model, unmerged.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace qwb {

// May be repeated; lib/adapt/use.h reads what is given.
void add_adapter_flag(CLI::App& app, std::vector<std::string>& adapters);

}  // namespace qwb
