// How every tool takes a model: a position and --model mean the same.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace qwb {

// One model, as the first position or by --model.
void add_model(CLI::App& app, std::string& model, const std::string& help);
// Any number of them, as positions called `name` or by --model, which may be repeated; in that
// order.
void add_models(CLI::App& app, std::vector<std::string>& models, const std::string& name,
                const std::string& help);

}  // namespace qwb
