// --adapter: LoRA adapters.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace qwb {

// Adapters that run beside the model, unmerged. May be repeated; lib/adapt/use.h reads what is
// given.
void add_adapter_flag(CLI::App& app, std::vector<std::string>& adapters);
// The same for another purpose.
void add_adapter_flag(CLI::App& app, std::vector<std::string>& adapters, const std::string& help,
                      const std::string& value);

}  // namespace qwb
