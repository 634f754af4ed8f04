// Element types of stored tensors, named as in safetensors headers.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace qwb {

// f8_e4m3: 4 bits of exponent, 3 of mantissa, no infinities (torch's float8_e4m3fn); f8_e8m0: a
// power of two.
enum class DType {
  f64,
  f32,
  f16,
  bf16,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean,
  f8_e4m3,
  f8_e8m0
};

// Bytes of one element.
int64_t dtype_size(DType type);
// "F32", "BF16", "U8", ...
std::string_view dtype_name(DType type);
// The type of that safetensors name; nothing if it is not one that this project can hold.
std::optional<DType> dtype_from_name(std::string_view name);
// f64, f32, f16, bf16: what can stand as it is. Codes of 8 bits mean nothing without scales.
bool dtype_is_float(DType type);

}  // namespace qwb
