// ggml's blocks to f32, with the arithmetic of its own dequantizers: f32 throughout, no fused
// multiply-adds, so that every value has the same bits. Layouts: formats/gguf/gguf.md.
#pragma once

#include <cstdint>

#include "lib/base/bytes.h"
#include "lib/codec/ggml_type.h"

namespace qwb {

// `count` values (whole blocks) from consecutive blocks, in the calling thread.
void dequantize_ggml(GgmlType type, const std::byte* blocks, int64_t count, float* out);

}  // namespace qwb
