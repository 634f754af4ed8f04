// Element types of stored tensors, named as in safetensors headers.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace qwb {

enum class DType { f64, f32, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8, boolean };

// Bytes of one element.
int64_t dtype_size(DType type);
// "F32", "BF16", "U8", ...
std::string_view dtype_name(DType type);
// The type of that safetensors name; nothing if it is not one that this project can hold.
std::optional<DType> dtype_from_name(std::string_view name);
// f64, f32, f16, bf16.
bool dtype_is_float(DType type);

}  // namespace qwb
