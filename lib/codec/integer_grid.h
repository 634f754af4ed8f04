// Codes on an integer grid, one scale (and zero point) for every group of input channels.
#pragma once

#include "lib/codec/bit_codes.h"
#include "lib/codec/weight.h"

namespace qwb {

// w[o, i] = (code[o, i] - zero[o, g]) * scale[o, g] with g = i / group_size; codes are unsigned, 2
// to 8 bits.
//   codes   U8 [out, ceil(in * bits / 8)]   each row a bit stream, least significant bit first,
//           padded with zero bits
//   scales  F16, BF16 or F32 [out, groups]  groups = ceil(in / group_size), the last may be short
//   zeros   U8 [out, ceil(groups * bits / 8)]  packed like codes; absent: the grid is symmetric and
//           zero = 2^(bits-1)
//   group_index I32 [in]                    g of every column, 0 .. groups - 1 (GPTQ's act-order);
//           absent: g = i / group_size
// Always in the orientation out_in.
struct IntegerGrid : EncodingOf<IntegerGrid> {
  int bits = 0;
  int64_t group_size = 0;  // 1 .. in (per channel: in)
  TensorView codes;
  TensorView scales;
  TensorView zeros;
  TensorView group_index;

  static constexpr char kName[] = "integer-grid";
  static constexpr NamedPart<IntegerGrid> kParts[] = {{"codes", &IntegerGrid::codes},
                                                      {"scales", &IntegerGrid::scales},
                                                      {"zeros", &IntegerGrid::zeros},
                                                      {"group_index", &IntegerGrid::group_index}};

  IntegerGrid() = default;
  IntegerGrid(int code_bits, int64_t group, TensorView packed, TensorView steps,
              TensorView zero_points = {}, TensorView groups = {});
  bool symmetric() const { return zeros.shape.empty(); }
  // The groups are runs of columns.
  bool in_order() const { return group_index.shape.empty(); }
  int64_t group(int64_t column) const {
    return in_order() ? column / group_size : load<int32_t>(group_index.bytes.data() + 4 * column);
  }

  void read(ParameterReader& parameters, const PartViews& parts);
  Json parameters() const override;
  int code_bits() const override { return bits; }
  void check(const WeightShape& shape, const std::string& where) const override;
  void decode_row(const WeightShape& shape, int64_t row, double* values) const override;
};

struct GridLayout {
  int bits = 4;
  int64_t group_size = 128;  // 1 .. in
  bool symmetric = true;
  DType scale_dtype = DType::f16;  // F16, BF16 or F32
  bool group_index = false;
};
WeightLayout integer_grid_layout(int64_t out, int64_t in, const GridLayout& grid);

}  // namespace qwb
