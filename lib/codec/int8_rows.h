// LLM.int8's rows.
#pragma once

#include "lib/codec/weight.h"

namespace qwb {

// w[o, i] = code[o, i] * absmax[o] / 127, which bitsandbytes computes as (code * absmax) * (1/127).
//   codes I8 [out, in] · absmax F32 [out]
// Always in the orientation out_in.
struct Int8Rows : EncodingOf<Int8Rows> {
  TensorView codes;
  TensorView absmax;

  static constexpr char kName[] = "int8-rows";
  static constexpr NamedPart<Int8Rows> kParts[] = {{"codes", &Int8Rows::codes},
                                                   {"absmax", &Int8Rows::absmax}};

  Int8Rows() = default;
  Int8Rows(TensorView rows, TensorView largest)
      : codes(std::move(rows)), absmax(std::move(largest)) {}
  void read(ParameterReader& /*parameters*/, const PartViews& /*parts*/) {}
  Json parameters() const override { return Json::object(); }
  int code_bits() const override { return 8; }
  void check(const WeightShape& shape, const std::string& where) const override;
  void decode_row(const WeightShape& shape, int64_t row, double* values) const override;
};

WeightLayout int8_rows_layout(int64_t out, int64_t in);

}  // namespace qwb
