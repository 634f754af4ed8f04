// The plain Hugging Face layout as a target: every module dequantized to floats
// (formats/safetensors.md).
#pragma once

#include <memory>

#include "formats/packed_format.h"

namespace qwb {

// f32 values [begin, end) as f32, f16 or bf16, rounded to nearest even. Throws `failed`, naming
// `where`, if a finite value becomes infinite.
void narrow_floats(const float* values, int64_t count, DType type, std::byte* out,
                   const std::string& where);

std::unique_ptr<PackedFormat> make_plain();

}  // namespace qwb
