#include <algorithm>
#include <array>
#include <vector>

#include "lib/base/half.h"
#include "lib/codec/integer_grid.h"
#include "lib/exec/cpu/decoders.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {
namespace {

float scale_at(const TensorView& scales, int64_t index) {
  switch (scales.dtype) {
    case DType::f16:
      return f16_to_f32(load<uint16_t>(scales.bytes.data() + 2 * index));
    case DType::bf16:
      return bf16_to_f32(load<uint16_t>(scales.bytes.data() + 2 * index));
    default:
      return load<float>(scales.bytes.data() + 4 * index);
  }
}

uint32_t code_at(const std::byte* packed, int64_t index, int bits) {
  const int64_t bit = index * bits;
  uint32_t word = static_cast<uint32_t>(packed[bit / 8]);
  if (bit % 8 + bits > 8) word |= static_cast<uint32_t>(packed[bit / 8 + 1]) << 8;
  return (word >> (bit % 8)) & ((1u << bits) - 1);
}

// What a kernel needs of one row of an integer grid.
struct GridRow {
  const IntegerGrid& grid;
  int64_t columns;
  int64_t row;

  const std::byte* codes() const { return grid.codes.bytes.data() + row * grid.codes.shape[1]; }
  int64_t groups() const { return grid.scales.shape[1]; }
  float scale(int64_t group) const { return scale_at(grid.scales, row * groups() + group); }
  float zero(int64_t group) const {
    if (grid.symmetric()) return static_cast<float>(1 << (grid.bits - 1));
    return static_cast<float>(
        code_at(grid.zeros.bytes.data() + row * grid.zeros.shape[1], group, grid.bits));
  }
};

// Columns whose groups are not runs: scales and zero points of the row are looked up one by one.
void scattered_row(const GridRow& row, float* out) {
  static thread_local std::vector<std::array<float, 2>> grids;
  grids.resize(static_cast<size_t>(row.groups()));
  for (int64_t g = 0; g < row.groups(); ++g) grids[g] = {row.zero(g), row.scale(g)};
  for (int64_t i = 0; i < row.columns; ++i) {
    const auto& [zero, scale] = grids[row.grid.group(i)];
    out[i] = (out[i] - zero) * scale;
  }
}

void grid_row(const GridRow& row, float* out) {
  simd::unpack(row.codes(), row.columns, row.grid.bits, out);
  if (!row.grid.in_order()) return scattered_row(row, out);
  for (int64_t group = 0, first = 0; first < row.columns; ++group, first += row.grid.group_size) {
    simd::dequantize_group(out + first, std::min(row.grid.group_size, row.columns - first),
                           row.zero(group), row.scale(group));
  }
}

simd::Packing grid_packing(int bits) {
  constexpr std::array kPackings = {
      simd::Packing::grid2, simd::Packing::grid3, simd::Packing::grid4, simd::Packing::grid5,
      simd::Packing::grid6, simd::Packing::grid7, simd::Packing::grid8};
  return kPackings.at(static_cast<size_t>(bits - 2));
}

simd::PackedScales::Form scale_form(DType dtype) {
  using Form = simd::PackedScales::Form;
  return dtype == DType::f16 ? Form::f16 : dtype == DType::bf16 ? Form::bf16 : Form::f32;
}

simd::PackedRows packed_grid(const IntegerGrid& grid, int64_t columns) {
  const simd::Packing packing = grid_packing(grid.bits);
  simd::PackedRows packed{packing, grid.codes.bytes.data(), grid.codes.shape[1], columns};
  const bool one = grid.group_size >= columns;  // a row is one group
  packed.scattered = !grid.in_order() || (!one && grid.group_size % simd::packed_run(packing) != 0);
  if (!grid.in_order()) packed.group_index = grid.group_index.bytes.data();
  packed.group = grid.group_size;
  packed.scales.form = scale_form(grid.scales.dtype);
  packed.scales.values = grid.scales.bytes;
  if (grid.symmetric()) return packed;
  packed.scales.zeros = grid.zeros.bytes.data();
  packed.scales.zeros_stride = grid.zeros.shape[1];
  return packed;
}

class IntegerGridDecoder final : public Decoder {
 public:
  void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const override {
    const auto& grid = weight.get<IntegerGrid>();
    for (int64_t row = begin; row < end; ++row, out += weight.in)
      grid_row({grid, weight.in, row}, out);
  }
  std::optional<simd::PackedRows> packed(const Weight& weight) const override {
    return packed_grid(weight.get<IntegerGrid>(), weight.in);
  }
};

}  // namespace

const Decoder& integer_grid_decoder() {
  static const IntegerGridDecoder decoder;
  return decoder;
}

}  // namespace qwb
