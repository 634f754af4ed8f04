// Plain definitions that the fast kernels are tested against.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "lib/codec/weight.h"
#include "lib/exec/executor.h"

namespace qwb {

// The whole stored matrix by Encoding::decode_row, rounded to f32.
std::vector<float> reference_dequantize(const Weight& weight);

// make_executor(ExecutorKind::reference, ...)
std::unique_ptr<Executor> make_reference_executor();

}  // namespace qwb
