// Plain values.
#pragma once

#include "lib/codec/weight.h"

namespace qwb {

// weight: F32, F16, BF16 or F64 of the shape that the orientation says.
struct DenseWeight : EncodingOf<DenseWeight> {
  TensorView values;

  static constexpr char kName[] = "dense";
  static constexpr NamedPart<DenseWeight> kParts[] = {{"weight", &DenseWeight::values}};

  DenseWeight() = default;
  explicit DenseWeight(TensorView view) : values(std::move(view)) {}
  void read(ParameterReader& /*parameters*/, const PartViews& /*parts*/) {}
  Json parameters() const override { return Json::object(); }
  int code_bits() const override { return static_cast<int>(8 * dtype_size(values.dtype)); }
  void check(const WeightShape& shape, const std::string& where) const override;
  void decode_row(const WeightShape& shape, int64_t row, double* values) const override;
};

WeightLayout dense_layout(const WeightShape& shape, DType dtype);

}  // namespace qwb
