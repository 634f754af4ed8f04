#include "lib/codec/ggml_blocks.h"

#include <cmath>

#include "lib/base/half.h"
#include "lib/codec/registry.h"

namespace qwb {
namespace {

PartSpec blocks_spec(const WeightShape& shape, GgmlType type) {
  return {"blocks", DType::u8, {shape.out, ggml_row_bytes(ggml_info(type), shape.in)}};
}

// Where the f16 scales (and minimums) of a block lie.
std::vector<int64_t> scale_offsets(GgmlType type) {
  switch (type) {
    case GgmlType::q4_1:
    case GgmlType::q5_1:
    case GgmlType::q4_k:
    case GgmlType::q5_k:
      return {0, 2};
    case GgmlType::q2_k:
      return {80, 82};
    case GgmlType::q3_k:
      return {108};
    case GgmlType::q6_k:
      return {208};
    case GgmlType::mxfp4:
      return {};
    default:
      return {0};
  }
}

}  // namespace

void GgmlBlocks::read(ParameterReader& parameters, const PartViews& /*parts*/) {
  const int64_t id = parameters.integer("type");
  const auto known = id < 256 ? ggml_type_from_number(static_cast<uint32_t>(id)) : std::nullopt;
  if (!known) damaged_weight("unknown ggml type", parameters.where());
  type = *known;
  head_rows = parameters.integer("head_rows", 0);
}

Json GgmlBlocks::parameters() const {
  return {{"head_rows", head_rows}, {"type", static_cast<int64_t>(type)}};
}

int GgmlBlocks::code_bits() const {
  return ggml_code_bits(type);
}

void GgmlBlocks::check(const WeightShape& shape, const std::string& where) const {
  if (shape.orientation != Orientation::out_in)
    damaged_weight("ggml blocks are stored [out, in]", where);
  const GgmlTypeInfo& info = ggml_info(type);
  if (!ggml_is_quantized(type))
    damaged_weight(std::string(info.name) + " is not stored in blocks", where);
  if (shape.in % info.block != 0)
    damaged_weight("rows of " + std::to_string(shape.in) + " are not whole blocks of " +
                       std::string(info.name),
                   where);
  if (head_rows < 0 || head_rows % 2 != 0 || (head_rows > 0 && shape.out % head_rows != 0))
    damaged_weight(
        "heads of " + std::to_string(head_rows) + " rows do not fit " + std::to_string(shape.out),
        where);
  expect_part(blocks, blocks_spec(shape, type), where);
}

void GgmlBlocks::decode_row(const WeightShape& shape, int64_t row, double* values) const {
  const GgmlTypeInfo& info = ggml_info(type);
  const std::byte* at = row_data(row);
  for (int64_t i = 0; i < shape.in; ++i)
    values[i] = static_cast<double>(reference_ggml_element(type, at + i / info.block * info.bytes,
                                                           static_cast<int>(i % info.block)));
}

WeightLayout ggml_blocks_layout(int64_t out, int64_t in, GgmlType type) {
  const WeightShape shape{out, in, Orientation::out_in};
  PartSpec spec = blocks_spec(shape, type);
  return {shape, GgmlBlocks{type, {spec.dtype, std::move(spec.shape), {}}}};
}

bool ggml_scales_finite(GgmlType type, Bytes blocks) {
  const GgmlTypeInfo& info = ggml_info(type);
  const std::vector<int64_t> halves = scale_offsets(type);
  for (const std::byte* block = blocks.data(); block < blocks.data() + blocks.size();
       block += info.bytes) {
    for (const int64_t at : halves) {
      if (!std::isfinite(f16_to_f32(load<uint16_t>(block + at)))) return false;
    }
    // 12 * 2^125 is beyond f32; 255 is E8M0's NaN.
    if (type == GgmlType::mxfp4 && load<uint8_t>(block) > 252) return false;
  }
  return true;
}

Codec ggml_blocks_codec() {
  return codec_of<GgmlBlocks>();
}

}  // namespace qwb
