#include "lib/codec/int8_rows.h"

#include "lib/codec/registry.h"

namespace qwb {

void Int8Rows::check(const WeightShape& shape, const std::string& where) const {
  if (shape.orientation != Orientation::out_in)
    damaged_weight("int8 rows are stored [out, in]", where);
  expect_part(codes, {"codes", DType::i8, {shape.out, shape.in}}, where);
  expect_part(absmax, {"absmax", DType::f32, {shape.out}}, where);
}

void Int8Rows::decode_row(const WeightShape& shape, int64_t row, double* values) const {
  float largest = 0;
  read_floats(absmax, row, 1, &largest, "absmax");
  const std::byte* at = codes.bytes.data() + row * shape.in;
  for (int64_t i = 0; i < shape.in; ++i)
    values[i] = static_cast<int8_t>(at[i]) * static_cast<double>(largest) / 127.0;
}

WeightLayout int8_rows_layout(int64_t out, int64_t in) {
  return {{out, in, Orientation::out_in},
          Int8Rows{{DType::i8, {out, in}, {}}, {DType::f32, {out}, {}}}};
}

Codec int8_rows_codec() {
  return codec_of<Int8Rows>();
}

}  // namespace qwb
