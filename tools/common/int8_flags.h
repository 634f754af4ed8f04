// --int8 and --int8-threshold: which forward pass int8 artifacts take.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "lib/model/int8_forward.h"

namespace qwb {

struct Int8Flags {
  std::optional<std::string> forward;  // "dequantize" or "decompose"
  std::optional<float> threshold;
};

void add_int8_flags(CLI::App& app, Int8Flags& flags);
// A threshold alone asks for the decomposition. Throws usage for one beside --int8 dequantize.
Int8Forward chosen_int8_forward(const Int8Flags& flags);

}  // namespace qwb
