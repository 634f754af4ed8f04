// The element types of GGUF files (ggml's): plain floats and blocks of 32 or 256 consecutive values
// of a row that share their scales. The bytes of each block: formats/gguf/gguf.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace qwb {

// The values are the numbers that GGUF files carry.
enum class GgmlType : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  iq4_xs = 23,
  bf16 = 30,
  mxfp4 = 39,
};

struct GgmlTypeInfo {
  GgmlType type;
  std::string_view name;  // "Q4_K"
  int64_t block;          // values of a block
  int64_t bytes;          // bytes of a block
};

// All types that can be read and written.
const std::vector<GgmlTypeInfo>& ggml_types();
const GgmlTypeInfo& ggml_info(GgmlType type);
std::optional<GgmlType> ggml_type_from_number(uint32_t number);
// Upper or lower case: "q4_k", "Q8_0", "BF16".
std::optional<GgmlType> ggml_type_from_name(std::string_view name);
// The name of a type that this project cannot hold ("IQ2_XXS"), for errors; empty for a number
// nobody uses.
std::string_view ggml_foreign_name(uint32_t number);
// False for the plain floats.
bool ggml_is_quantized(GgmlType type);
// Bits of a value's code, for quantized types.
int ggml_code_bits(GgmlType type);

// What the codes of IQ4_NL and IQ4_XS stand for, times a scale. Denser where weights are.
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
// Those of MXFP4: twice the numbers of E2M1, so that they are whole; -0 is 0.
inline constexpr int8_t kMxfp4Values[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                            0, -1, -2, -3, -4, -6, -8, -12};
// What they are multiplied with: 2^(e - 128).
float ggml_mxfp4_scale(int e);

// Bytes of a row of `columns` values, a multiple of the block.
inline int64_t ggml_row_bytes(const GgmlTypeInfo& info, int64_t columns) {
  return columns / info.block * info.bytes;
}

}  // namespace qwb
