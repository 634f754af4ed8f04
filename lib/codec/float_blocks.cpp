#include "lib/codec/float_blocks.h"

#include "lib/codec/float_tables.h"
#include "lib/codec/registry.h"

namespace qwb {
namespace {

std::vector<PartSpec> all_block_parts(const WeightShape& shape, const FloatBlocks& blocks,
                                      bool nested) {
  const int64_t scales = ceil_div(shape.count(), blocks.block_size);
  return {{"codes", DType::u8, {ceil_div(shape.count(), 2)}},
          {"absmax", nested ? DType::u8 : DType::f32, {scales}},
          {"nested_absmax", DType::f32, {ceil_div(scales, blocks.nested_block)}},
          {"nested_map", DType::f32, {256}}};
}

}  // namespace

float FloatBlocks::scale(int64_t block) const {
  if (!nested()) return load<float>(absmax.bytes.data() + 4 * block);
  const auto index = static_cast<int64_t>(absmax.bytes[block]);
  const float largest = load<float>(nested_absmax.bytes.data() + 4 * (block / nested_block));
  return load<float>(nested_map.bytes.data() + 4 * index) * largest + *nested_offset;
}

void FloatBlocks::read(ParameterReader& parameters, const PartViews& parts) {
  const int64_t number = parameters.integer("table");
  if (number > 1) damaged_weight("unknown 4-bit table", parameters.where());
  table = number == 0 ? Table::nf4 : Table::fp4;
  block_size = parameters.integer("block_size");
  if (!parts.contains("nested_absmax")) return;
  nested_block = parameters.integer("nested_block");
  nested_offset = static_cast<float>(parameters.number("nested_offset"));
}

Json FloatBlocks::parameters() const {
  Json json = {{"block_size", block_size}};
  if (nested()) json["nested_block"] = nested_block;
  if (nested() && nested_offset) json["nested_offset"] = static_cast<double>(*nested_offset);
  json["table"] = table == Table::nf4 ? 0 : 1;
  return json;
}

void FloatBlocks::check(const WeightShape& shape, const std::string& where) const {
  if (block_size < 1 || nested_block < 1) damaged_weight("block sizes must be positive", where);
  const auto specs = all_block_parts(shape, *this, nested());
  expect_part(codes, specs[0], where);
  expect_part(absmax, specs[1], where);
  if (!nested()) return;
  expect_part(nested_absmax, specs[2], where);
  expect_part(nested_map, specs[3], where);
  if (!nested_offset) damaged_weight("parameter 'nested_offset' is missing", where);
}

void FloatBlocks::decode_row(const WeightShape& shape, int64_t row, double* values) const {
  const auto& floats = float_table(table);
  for (int64_t column = 0; column < shape.columns(); ++column) {
    const int64_t index = row * shape.columns() + column;
    const auto byte = static_cast<uint8_t>(codes.bytes[index / 2]);
    const auto code = static_cast<size_t>(index % 2 == 0 ? byte >> 4 : byte & 15);
    values[column] =
        static_cast<double>(floats[code]) * static_cast<double>(scale(index / block_size));
  }
}

WeightLayout float_blocks_layout(const WeightShape& shape, const FloatBlocksLayout& blocks) {
  FloatBlocks form;
  form.table = blocks.table;
  form.block_size = blocks.block_size;
  form.nested_block = blocks.nested_block;
  const auto specs = all_block_parts(shape, form, blocks.double_quantization);
  const auto view = [&](size_t part) {
    return TensorView{specs[part].dtype, specs[part].shape, {}};
  };
  form.codes = view(0);
  form.absmax = view(1);
  if (blocks.double_quantization) {
    form.nested_absmax = view(2);
    form.nested_map = view(3);
  }
  return {shape, std::move(form)};
}

Codec float_blocks_codec() {
  return codec_of<FloatBlocks>();
}

}  // namespace qwb
