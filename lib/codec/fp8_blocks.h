// FP8 weights with one scale for each rectangle of the matrix.
#pragma once

#include "lib/codec/weight.h"

namespace qwb {

// w[o, i] = e4m3(code[o, i]) * scale[o / block_rows, i / block_columns], in f32
//   codes  F8_E4M3 [out, in]
//   scales F32, F16, BF16 or F8_E8M0 [ceil(out / block_rows), ceil(in / block_columns)]
// One scale for the tensor: a block of [out, in]; one for each channel: of [1, in]. Always in the
// orientation out_in.
struct Fp8Blocks : EncodingOf<Fp8Blocks> {
  int64_t block_rows = 1, block_columns = 1;
  TensorView codes;
  TensorView scales;

  static constexpr char kName[] = "fp8-blocks";
  static constexpr NamedPart<Fp8Blocks> kParts[] = {{"codes", &Fp8Blocks::codes},
                                                    {"scales", &Fp8Blocks::scales}};

  // The scale of that row of blocks and that block of it.
  float scale(int64_t block_row, int64_t block) const;

  void read(ParameterReader& parameters, const PartViews& parts);
  Json parameters() const override;
  int code_bits() const override { return 8; }
  void check(const WeightShape& shape, const std::string& where) const override;
  void decode_row(const WeightShape& shape, int64_t row, double* values) const override;
};

WeightLayout fp8_blocks_layout(int64_t out, int64_t in, int64_t block_rows, int64_t block_columns,
                               DType scale_dtype = DType::f32);

}  // namespace qwb
