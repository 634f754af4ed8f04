#include "lib/codec/merged_weight.h"

namespace qwb {
namespace {

const float* factor_floats(const TensorView& view) {
  return reinterpret_cast<const float*>(view.bytes.data());
}

}  // namespace

std::vector<std::pair<std::string, TensorView>> MergedWeight::parts() const {
  std::vector<std::pair<std::string, TensorView>> all = base->parts();
  all.emplace_back("left", left);
  all.emplace_back("right", right);
  return all;
}

std::shared_ptr<const Encoding> MergedWeight::with_parts(const PartViews& views,
                                                         const std::string& where) const {
  auto copy = std::make_shared<MergedWeight>(*this);
  PartViews rest;
  for (const auto& [name, view] : views) {
    if (name == "left") {
      copy->left = view;
    } else if (name == "right") {
      copy->right = view;
    } else {
      rest.emplace(name, view);
    }
  }
  copy->base = base->with_parts(rest, where);
  return copy;
}

void MergedWeight::check(const WeightShape& shape, const std::string& where) const {
  base->check(shape, where);
  if (right.shape.size() != 2) damaged_weight("the low-rank factors are no matrices", where);
  expect_part(left, {"left", DType::f32, {shape.rows(), rank()}}, where);
  expect_part(right, {"right", DType::f32, {rank(), shape.columns()}}, where);
}

void MergedWeight::decode_row(const WeightShape& shape, int64_t row, double* values) const {
  const int64_t columns = shape.columns();
  base->decode_row(shape, row, values);
  for (int64_t k = 0; k < rank(); ++k) {
    const auto factor = static_cast<double>(left_row(row)[k]);
    for (int64_t c = 0; c < columns; ++c)
      values[c] += factor * static_cast<double>(right_row(k)[c]);
  }
}

const float* MergedWeight::left_row(int64_t row) const {
  return factor_floats(left) + row * left.shape[1];
}

const float* MergedWeight::right_row(int64_t index) const {
  return factor_floats(right) + index * right.shape[1];
}

Weight MergedWeight::base_weight(const WeightShape& shape) const {
  return Weight(WeightLayout(shape, base));
}

}  // namespace qwb
