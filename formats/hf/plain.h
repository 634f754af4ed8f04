// The plain Hugging Face layout: floats (formats/safetensors/safetensors.md). Written, every module
// is dequantized.
#pragma once

#include <string>
#include <vector>

#include "formats/hf/packed_format.h"
#include "formats/model_format.h"

namespace qwb {

// f32 values [begin, end) as f32, f16 or bf16, rounded to nearest even. Throws `failed`, naming
// `where`, if a finite value becomes infinite.
void narrow_floats(const float* values, int64_t count, DType type, std::byte* out,
                   const std::string& where);

// A module as a plain tensor of its dtype, in its plain orientation: in this format, and in others
// where they leave a module unquantized.
std::vector<PartSpec> plain_layout(const TargetModule& module);
PackedTensors plain_tensors(const TargetModule& module, const Weight& weight,
                            const Context& context);

}  // namespace qwb
