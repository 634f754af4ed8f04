#include "lib/codec/fp8_blocks.h"

#include "lib/codec/minifloat.h"
#include "lib/codec/registry.h"

namespace qwb {
namespace {

Shape scale_shape(int64_t out, int64_t in, const Fp8Blocks& blocks) {
  return {ceil_div(out, blocks.block_rows), ceil_div(in, blocks.block_columns)};
}

}  // namespace

float Fp8Blocks::scale(int64_t block_row, int64_t block) const {
  const int64_t at = block_row * scales.shape[1] + block;
  if (scales.dtype == DType::f8_e8m0) return e8m0_value(static_cast<uint8_t>(scales.bytes[at]));
  float value = 0;
  read_floats(scales, at, 1, &value, "scales");
  return value;
}

void Fp8Blocks::read(ParameterReader& parameters, const PartViews& /*parts*/) {
  block_rows = parameters.integer("block_rows");
  block_columns = parameters.integer("block_columns");
}

Json Fp8Blocks::parameters() const {
  return {{"block_columns", block_columns}, {"block_rows", block_rows}};
}

void Fp8Blocks::check(const WeightShape& shape, const std::string& where) const {
  if (shape.orientation != Orientation::out_in)
    damaged_weight("fp8 blocks are stored [out, in]", where);
  if (block_rows < 1 || block_columns < 1 || block_rows > shape.out || block_columns > shape.in)
    damaged_weight("blocks must lie inside the matrix", where);
  expect_part(codes, {"codes", DType::f8_e4m3, {shape.out, shape.in}}, where);
  const bool known = dtype_is_float(scales.dtype) || scales.dtype == DType::f8_e8m0;
  const DType type = known && scales.dtype != DType::f64 ? scales.dtype : DType::f32;
  expect_part(scales, {"scales", type, scale_shape(shape.out, shape.in, *this)}, where);
}

void Fp8Blocks::decode_row(const WeightShape& shape, int64_t row, double* values) const {
  const std::byte* at = codes.bytes.data() + row * shape.in;
  for (int64_t i = 0; i < shape.in; ++i) {
    values[i] = static_cast<double>(e4m3_value(static_cast<uint8_t>(at[i]))) *
                static_cast<double>(scale(row / block_rows, i / block_columns));
  }
}

WeightLayout fp8_blocks_layout(int64_t out, int64_t in, int64_t block_rows, int64_t block_columns,
                               DType scale_dtype) {
  Fp8Blocks form;
  form.block_rows = block_rows;
  form.block_columns = block_columns;
  form.codes = {DType::f8_e4m3, {out, in}, {}};
  form.scales = {scale_dtype, scale_shape(out, in, form), {}};
  return {{out, in, Orientation::out_in}, std::move(form)};
}

Codec fp8_blocks_codec() {
  return codec_of<Fp8Blocks>();
}

}  // namespace qwb
