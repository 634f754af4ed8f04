// Which GGUF type a tensor takes, and what its blocks lose.
#pragma once

#include <cstdint>
#include <string>

#include "lib/codec/ggml_type.h"
#include "lib/tensor/error_sum.h"

namespace qwb {

// `type`; where rows of `columns` values are not whole blocks of it, the type that llama.cpp falls
// back to, which `note` then tells.
GgmlType fitting_ggml_type(GgmlType type, int64_t columns, std::string& note);

// general.file_type (llama.cpp's enum llama_ftype).
int64_t gguf_file_type(GgmlType type);

// `count` values of whole blocks, or of floats, as f32.
void decode_ggml(GgmlType type, const std::byte* blocks, int64_t count, float* values);

// What a row of `count` values lost in blocks whose scales are coarse (lib/tensor/small_numbers.h),
// and the squares of all.
ErrorSum lost_to_scales(GgmlType type, const std::byte* blocks, const float* values,
                        const float* decoded, int64_t count);

}  // namespace qwb
