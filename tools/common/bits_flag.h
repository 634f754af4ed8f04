// --bits of the tools that run a model: quantize it first, or take what is kept.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "lib/jobs/choose.h"

namespace qwb {

// bits: 0 unless the flag is given.
CLI::Option* add_bits_flag(CLI::App& app, int& bits);

// The model that a tool runs: with bits model_at_bits, else `model`, else the newest artifact in
// the cache. Throws what these throw, and verification for an artifact whose bytes have changed.
ChosenArtifact model_to_run(const std::string& model, int bits, const Context& context);

}  // namespace qwb
