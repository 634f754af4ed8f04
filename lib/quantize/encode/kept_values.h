// What every method's result must pass before it is stored.
#pragma once

#include "lib/quantize/method.h"

namespace qwb {

// method.quantize(), and throws `failed`, naming the module and what else to choose, if its values
// are too small for the result's types (lib/tensor/small_numbers.h).
ModuleResult quantize_module(const Method& method, const ModuleTask& task,
                             const Settings& settings);

}  // namespace qwb
