// The part of packed_dot() that multiplies ggml's blocks.
#pragma once

#include "lib/exec/cpu/packed_dot.h"

namespace qwb::simd {

void packed_superblocks_dot(const PackedRows& rows, const PackedTask& task);

}  // namespace qwb::simd
