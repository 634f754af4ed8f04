// A stored form that only the tests know, to show what adding one takes: this file, and one line
// that names it (add_codec).
#pragma once

#include "lib/codec/registry.h"

namespace qwb::testing {

// w[o, i] = tables[o, code[o, i]].
//   codes  U8 [out, ceil(in / 2)]  element 2j in the low nibble of byte j
//   tables F32 [out, 16]
// Always in the orientation out_in.
struct RowTables : EncodingOf<RowTables> {
  TensorView codes;
  TensorView tables;

  static constexpr char kName[] = "row-tables";
  static constexpr NamedPart<RowTables> kParts[] = {{"codes", &RowTables::codes},
                                                    {"tables", &RowTables::tables}};

  void read(ParameterReader& /*parameters*/, const PartViews& /*parts*/) {}
  Json parameters() const override { return Json::object(); }
  int code_bits() const override { return 4; }
  void check(const WeightShape& shape, const std::string& where) const override {
    if (shape.orientation != Orientation::out_in)
      damaged_weight("row tables are stored [out, in]", where);
    expect_part(codes, {"codes", DType::u8, {shape.out, ceil_div(shape.in, 2)}}, where);
    expect_part(tables, {"tables", DType::f32, {shape.out, 16}}, where);
  }
  void decode_row(const WeightShape& shape, int64_t row, double* values) const override {
    const std::byte* at = codes.bytes.data() + row * codes.shape[1];
    for (int64_t i = 0; i < shape.in; ++i) {
      const auto pair = static_cast<int64_t>(at[i / 2]);
      const int64_t code = i % 2 == 0 ? pair & 15 : pair >> 4;
      values[i] = static_cast<double>(load<float>(tables.bytes.data() + 4 * (row * 16 + code)));
    }
  }
};

inline WeightLayout row_tables_layout(int64_t out, int64_t in) {
  RowTables form;
  form.codes = {DType::u8, {out, ceil_div(in, 2)}, {}};
  form.tables = {DType::f32, {out, 16}, {}};
  return {{out, in}, std::move(form)};
}

}  // namespace qwb::testing
