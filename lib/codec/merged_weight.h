// A weight with a low-rank product added, in memory alone: W + left right. Its values are made when
// they are read, so that a merged model is written, or quantized, without ever lying anywhere.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lib/codec/weight.h"

namespace qwb {

// Of the stored matrix [rows, columns]: base's values + left [rows, rank] right [rank, columns],
// the factors F32. Its parts are those of the base and the factors, which `owner` keeps. No file
// has this codec.
struct MergedWeight : EncodingOf<MergedWeight> {
  std::shared_ptr<const Encoding> base;
  TensorView left, right;
  std::shared_ptr<const void> owner;

  static constexpr char kName[] = "merged";
  static constexpr NamedPart<MergedWeight> kParts[] = {{"left", &MergedWeight::left},
                                                       {"right", &MergedWeight::right}};

  std::vector<std::pair<std::string, TensorView>> parts() const override;
  std::shared_ptr<const Encoding> with_parts(const PartViews& views,
                                             const std::string& where) const override;
  Json parameters() const override { return Json::object(); }
  int code_bits() const override { return 32; }
  void check(const WeightShape& shape, const std::string& where) const override;
  void decode_row(const WeightShape& shape, int64_t row, double* values) const override;

  int64_t rank() const { return right.shape.at(0); }
  const float* left_row(int64_t row) const;
  const float* right_row(int64_t index) const;
  // The base alone.
  Weight base_weight(const WeightShape& shape) const;
};

}  // namespace qwb
