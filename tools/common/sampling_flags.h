// How the next token is chosen: the same flags in every tool that generates.
#pragma once

#include <CLI/CLI.hpp>

#include "lib/base/json.h"
#include "lib/model/sampling.h"

namespace qwb {

void add_sampling_flags(CLI::App& app, SamplingSettings& sampling);

// The flags of these that were typed, by the names of the settings: {"top_k": 20}.
Json given_sampling(const CLI::App& app, const SamplingSettings& sampling);

}  // namespace qwb
