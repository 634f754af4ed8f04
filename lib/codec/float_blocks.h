// 4-bit floats as bitsandbytes stores them.
#pragma once

#include <optional>

#include "lib/codec/weight.h"

namespace qwb {

// w[k] = table[code[k]] * scale(k / block_size) over the flattened stored matrix, whatever its
// orientation.
//   codes  U8 [ceil(n / 2)]  element 2j in the high nibble of byte j
//   absmax F32 [blocks], or with double quantization U8 [blocks] and
//   nested_absmax F32 [ceil(blocks / nested_block)], nested_map F32 [256]:
//          scale(b) = nested_map[absmax[b]] * nested_absmax[b / nested_block] + nested_offset
struct FloatBlocks : EncodingOf<FloatBlocks> {
  enum class Table { nf4, fp4 };
  Table table = Table::nf4;
  int64_t block_size = 64;
  int64_t nested_block = 256;
  std::optional<float> nested_offset;  // known once the weight is quantized
  TensorView codes;
  TensorView absmax;
  TensorView nested_absmax;  // without double quantization absent, as is nested_map
  TensorView nested_map;

  static constexpr char kName[] = "float-blocks";
  static constexpr NamedPart<FloatBlocks> kParts[] = {
      {"codes", &FloatBlocks::codes},
      {"absmax", &FloatBlocks::absmax},
      {"nested_absmax", &FloatBlocks::nested_absmax},
      {"nested_map", &FloatBlocks::nested_map}};

  bool nested() const { return !nested_absmax.shape.empty(); }
  float scale(int64_t block) const;

  void read(ParameterReader& parameters, const PartViews& parts);
  Json parameters() const override;
  int code_bits() const override { return 4; }
  void check(const WeightShape& shape, const std::string& where) const override;
  void decode_row(const WeightShape& shape, int64_t row, double* values) const override;
};

struct FloatBlocksLayout {
  FloatBlocks::Table table = FloatBlocks::Table::nf4;
  int64_t block_size = 64;
  bool double_quantization = true;
  int64_t nested_block = 256;
};
WeightLayout float_blocks_layout(const WeightShape& shape, const FloatBlocksLayout& blocks);

}  // namespace qwb
