#include "formats/gguf/types.h"

#include <map>

#include "lib/base/bytes.h"
#include "lib/base/half.h"
#include "lib/exec/cpu/ggml_blocks.h"
#include "lib/tensor/small_numbers.h"
#include "lib/tensor/tensor.h"

namespace qwb {
namespace {

GgmlType fallback_type(GgmlType type) {
  switch (type) {
    case GgmlType::q2_k:
    case GgmlType::q3_k:
      return GgmlType::q4_0;
    case GgmlType::q4_k:
      return GgmlType::q5_0;
    case GgmlType::q5_k:
      return GgmlType::q5_1;
    case GgmlType::q6_k:
      return GgmlType::q8_0;
    case GgmlType::iq4_xs:
      return GgmlType::iq4_nl;
    default:
      return GgmlType::f16;
  }
}

// Where a block of the type keeps its scale, an f16; MXFP4 has a power of two instead, of which
// none is coarse.
int64_t scale_offset(GgmlType type) {
  switch (type) {
    case GgmlType::q2_k:
      return 80;
    case GgmlType::q3_k:
      return 108;
    case GgmlType::q6_k:
      return 208;
    default:
      return 0;
  }
}

}  // namespace

GgmlType fitting_ggml_type(GgmlType type, int64_t columns, std::string& note) {
  const GgmlType wanted = type;
  while (columns % ggml_info(type).block != 0) type = fallback_type(type);
  if (type != wanted)
    note = "rows of " + std::to_string(columns) + " are not whole blocks of " +
           std::string(ggml_info(wanted).name) + ": " + std::string(ggml_info(type).name);
  return type;
}

int64_t gguf_file_type(GgmlType type) {
  static const std::map<GgmlType, int64_t> numbers = {
      {GgmlType::f32, 0},   {GgmlType::f16, 1},     {GgmlType::bf16, 32},   {GgmlType::q4_0, 2},
      {GgmlType::q4_1, 3},  {GgmlType::q5_0, 8},    {GgmlType::q5_1, 9},    {GgmlType::q8_0, 7},
      {GgmlType::q2_k, 10}, {GgmlType::q3_k, 12},   {GgmlType::q4_k, 15},   {GgmlType::q5_k, 17},
      {GgmlType::q6_k, 18}, {GgmlType::iq4_nl, 25}, {GgmlType::iq4_xs, 30}, {GgmlType::mxfp4, 38}};
  return numbers.at(type);
}

void decode_ggml(GgmlType type, const std::byte* blocks, int64_t count, float* values) {
  if (ggml_is_quantized(type)) return dequantize_ggml(type, blocks, count, values);
  const DType dtype = dtype_from_name(ggml_info(type).name).value();
  read_floats({dtype, {count}, {blocks, static_cast<size_t>(count * dtype_size(dtype))}}, 0, count,
              values, "row");
}

ErrorSum lost_to_scales(GgmlType type, const std::byte* blocks, const float* values,
                        const float* decoded, int64_t count) {
  const GgmlTypeInfo& info = ggml_info(type);
  ErrorSum lost;
  for (int64_t at = 0; at < count; at += info.block, blocks += info.bytes) {
    const ErrorSum block = error_sum(values + at, decoded + at, info.block);
    lost.norm += block.norm;
    if (type == GgmlType::mxfp4) continue;
    const float scale = f16_to_f32(load<uint16_t>(blocks + scale_offset(type)));
    if (is_coarse_scale(scale, DType::f16, ggml_code_bits(type))) lost.error += block.error;
  }
  return lost;
}

}  // namespace qwb
