#include "lib/codec/integer_grid.h"

#include <algorithm>

#include "lib/codec/registry.h"

namespace qwb {
namespace {

// Codes, scales, zeros and group_index, whether the grid has them or not.
std::vector<PartSpec> all_grid_parts(const WeightShape& shape, int bits, int64_t group_size,
                                     DType scale_dtype) {
  const int64_t groups = ceil_div(shape.in, group_size);
  return {{"codes", DType::u8, {shape.out, packed_bytes(shape.in, bits)}},
          {"scales", scale_dtype, {shape.out, groups}},
          {"zeros", DType::u8, {shape.out, packed_bytes(groups, bits)}},
          {"group_index", DType::i32, {shape.in}}};
}

}  // namespace

IntegerGrid::IntegerGrid(int code_bits, int64_t group, TensorView packed, TensorView steps,
                         TensorView zero_points, TensorView groups)
    : bits(code_bits),
      group_size(group),
      codes(std::move(packed)),
      scales(std::move(steps)),
      zeros(std::move(zero_points)),
      group_index(std::move(groups)) {}

void IntegerGrid::read(ParameterReader& parameters, const PartViews& /*parts*/) {
  bits = static_cast<int>(std::min<int64_t>(parameters.integer("bits"), 99));
  group_size = parameters.integer("group_size");
}

Json IntegerGrid::parameters() const {
  return {{"bits", bits}, {"group_size", group_size}};
}

void IntegerGrid::check(const WeightShape& shape, const std::string& where) const {
  if (bits < 2 || bits > 8)
    damaged_weight("bits must be 2 to 8, not " + std::to_string(bits), where);
  if (group_size < 1 || group_size > shape.in)
    damaged_weight("group size " + std::to_string(group_size) + " is not within the row", where);
  if (shape.orientation != Orientation::out_in)
    damaged_weight("an integer grid is stored [out, in]", where);
  const DType scale = scales.dtype;
  if (scale != DType::f16 && scale != DType::bf16 && scale != DType::f32)
    damaged_weight("scales must be F16, BF16 or F32", where);
  const auto specs = all_grid_parts(shape, bits, group_size, scale);
  expect_part(codes, specs[0], where);
  expect_part(scales, specs[1], where);
  if (!symmetric()) expect_part(zeros, specs[2], where);
  if (in_order()) return;
  expect_part(group_index, specs[3], where);
  const int64_t groups = scales.shape[1];
  for (int64_t i = 0; i < shape.in; ++i) {
    const int64_t g = group(i);
    if (g < 0 || g >= groups) {
      damaged_weight("column " + std::to_string(i) + " is in group " + std::to_string(g) +
                         ", and there are " + std::to_string(groups),
                     where);
    }
  }
}

void IntegerGrid::decode_row(const WeightShape& shape, int64_t row, double* values) const {
  const int64_t groups = scales.shape[1];
  std::vector<uint8_t> row_codes(static_cast<size_t>(shape.in));
  unpack_codes(codes.bytes.data() + row * codes.shape[1], shape.in, bits, row_codes.data());
  std::vector<uint8_t> row_zeros(static_cast<size_t>(groups),
                                 static_cast<uint8_t>(1 << (bits - 1)));
  if (!symmetric())
    unpack_codes(zeros.bytes.data() + row * zeros.shape[1], groups, bits, row_zeros.data());
  std::vector<float> row_scales(static_cast<size_t>(groups));
  read_floats(scales, row * groups, groups, row_scales.data(), "scales");
  for (int64_t i = 0; i < shape.in; ++i) {
    const auto g = static_cast<size_t>(group(i));
    values[i] = (row_codes[i] - row_zeros[g]) * static_cast<double>(row_scales[g]);
  }
}

WeightLayout integer_grid_layout(int64_t out, int64_t in, const GridLayout& grid) {
  const WeightShape shape{out, in, Orientation::out_in};
  const auto specs = all_grid_parts(shape, grid.bits, grid.group_size, grid.scale_dtype);
  const auto view = [&](size_t part, bool present) {
    return present ? TensorView{specs[part].dtype, specs[part].shape, {}} : TensorView{};
  };
  return {shape, IntegerGrid{grid.bits, grid.group_size, view(0, true), view(1, true),
                             view(2, !grid.symmetric), view(3, grid.group_index)}};
}

Codec integer_grid_codec() {
  return codec_of<IntegerGrid>();
}

}  // namespace qwb
