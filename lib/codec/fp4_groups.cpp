#include "lib/codec/fp4_groups.h"

#include <cmath>

#include "lib/codec/minifloat.h"
#include "lib/codec/registry.h"

namespace qwb {

float Fp4Groups::scale(int64_t row, int64_t group) const {
  const auto code = static_cast<uint8_t>(scales.bytes[row * scales.shape[1] + group]);
  if (!has_global()) return e8m0_value(code);
  const float outer = load<float>(global.bytes.data());
  return divides ? e4m3_value(code) / outer : e4m3_value(code) * outer;
}

void Fp4Groups::read(ParameterReader& parameters, const PartViews& parts) {
  group_size = parameters.integer("group_size");
  if (!parts.contains("global")) return;
  const int64_t number = parameters.integer("global_divides");
  if (number > 1) damaged_weight("global_divides must be 0 or 1", parameters.where());
  divides = number == 1;
}

Json Fp4Groups::parameters() const {
  Json json = {{"group_size", group_size}};
  if (has_global()) json["global_divides"] = divides ? 1 : 0;
  return json;
}

void Fp4Groups::check(const WeightShape& shape, const std::string& where) const {
  if (shape.orientation != Orientation::out_in)
    damaged_weight("fp4 groups are stored [out, in]", where);
  if (group_size < 1) damaged_weight("group_size must be positive", where);
  expect_part(codes, {"codes", DType::u8, {shape.out, ceil_div(shape.in, 2)}}, where);
  const DType type = has_global() ? DType::f8_e4m3 : DType::f8_e8m0;
  expect_part(scales, {"scales", type, {shape.out, ceil_div(shape.in, group_size)}}, where);
  if (!has_global()) return;
  expect_part(global, {"global", DType::f32, {1}}, where);
  const float outer = load<float>(global.bytes.data());
  if (!std::isfinite(outer) || outer == 0)
    damaged_weight("the global scale is zero, infinite or NaN", where);
}

void Fp4Groups::decode_row(const WeightShape& shape, int64_t row, double* values) const {
  const std::byte* at = codes.bytes.data() + row * codes.shape[1];
  for (int64_t i = 0; i < shape.in; ++i) {
    const auto pair = static_cast<size_t>(at[i / 2]);
    values[i] = static_cast<double>(kE2m1[i % 2 == 0 ? pair & 15 : pair >> 4]) *
                static_cast<double>(scale(row, i / group_size));
  }
}

WeightLayout fp4_groups_layout(int64_t out, int64_t in, const Fp4GroupsLayout& groups) {
  Fp4Groups form;
  form.group_size = groups.group_size;
  form.divides = groups.global && groups.divides;
  form.codes = {DType::u8, {out, ceil_div(in, 2)}, {}};
  form.scales = {
      groups.global ? DType::f8_e4m3 : DType::f8_e8m0, {out, ceil_div(in, groups.group_size)}, {}};
  if (groups.global) form.global = {DType::f32, {1}, {}};
  return {{out, in, Orientation::out_in}, std::move(form)};
}

Codec fp4_groups_codec() {
  return codec_of<Fp4Groups>();
}

}  // namespace qwb
