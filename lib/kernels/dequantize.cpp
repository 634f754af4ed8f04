#include "lib/kernels/dequantize.h"

#include <algorithm>
#include <array>
#include <vector>

#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/kernels/ggml_blocks.h"
#include "lib/kernels/simd.h"
#include "lib/tensor/float_tables.h"

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
    if (grid.zeros.empty()) return static_cast<float>(1 << (grid.bits - 1));
    return static_cast<float>(code_at(grid.zeros.bytes.data() + row * grid.zeros.shape[1], group, grid.bits));
  }
};

void dense_part(const DenseWeight& dense, int64_t first, int64_t count, float* out) {
  const std::byte* at = dense.values.bytes.data() + first * dtype_size(dense.values.dtype);
  switch (dense.values.dtype) {
    case DType::f16:
      return simd::from_f16(at, count, out);
    case DType::bf16:
      return simd::from_bf16(at, count, out);
    case DType::f32:
      std::memcpy(out, at, static_cast<size_t>(count) * sizeof(float));
      return;
    default:
      for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(load<double>(at + 8 * i));
  }
}

// Both values of a byte of 4-bit codes at once: element 2j is in the high nibble.
struct PairTable {
  std::array<std::array<float, 2>, 256> pairs;
  explicit PairTable(const std::array<float, 16>& table) : pairs() {
    for (size_t byte = 0; byte < 256; ++byte) pairs[byte] = {table[byte >> 4], table[byte & 15]};
  }
};

float block_scale(const FloatBlocks& blocks, int64_t block) {
  if (blocks.nested_absmax.empty()) return load<float>(blocks.absmax.bytes.data() + 4 * block);
  const auto index = static_cast<int64_t>(blocks.absmax.bytes[static_cast<size_t>(block)]);
  const float nested = load<float>(blocks.nested_absmax.bytes.data() + 4 * (block / blocks.nested_block));
  return load<float>(blocks.nested_map.bytes.data() + 4 * index) * nested + blocks.nested_offset;
}

// Elements [first, first + count) of the flattened matrix.
void blocks_part(const FloatBlocks& blocks, int64_t first, int64_t count, float* out) {
  static const PairTable nf4(kNf4);
  static const PairTable fp4(kFp4);
  const auto& pairs = (blocks.table == FloatBlocks::Table::nf4 ? nf4 : fp4).pairs;
  const std::byte* codes = blocks.codes.bytes.data();
  for (int64_t at = first, end = first + count; at < end;) {
    const int64_t block = at / blocks.block_size;
    const int64_t stop = std::min(end, (block + 1) * blocks.block_size);
    const float scale = block_scale(blocks, block);
    float* target = out + (at - first);
    if (at % 2 != 0) {
      *target++ = pairs[static_cast<size_t>(codes[at / 2])][1] * scale;
      ++at;
    }
    for (; at + 2 <= stop; at += 2, target += 2) {
      const auto& pair = pairs[static_cast<size_t>(codes[at / 2])];
      target[0] = pair[0] * scale;
      target[1] = pair[1] * scale;
    }
    if (at < stop) {
      *target = pairs[static_cast<size_t>(codes[at / 2])][0] * scale;
      ++at;
    }
  }
}

// Columns whose groups are not runs: scales and zero points of the row are looked up one by one.
void scattered_row(const GridRow& row, float* out) {
  static thread_local std::vector<std::array<float, 2>> grids;
  grids.resize(static_cast<size_t>(row.groups()));
  for (int64_t g = 0; g < row.groups(); ++g) grids[static_cast<size_t>(g)] = {row.zero(g), row.scale(g)};
  for (int64_t i = 0; i < row.columns; ++i) {
    const auto& [zero, scale] = grids[static_cast<size_t>(row.grid.group(i))];
    out[i] = (out[i] - zero) * scale;
  }
}

void grid_row(const GridRow& row, float* out) {
  simd::unpack(row.codes(), row.columns, row.grid.bits, out);
  if (!row.grid.group_index.empty()) return scattered_row(row, out);
  for (int64_t group = 0, first = 0; first < row.columns; ++group, first += row.grid.group_size) {
    simd::dequantize_group(out + first, std::min(row.grid.group_size, row.columns - first), row.zero(group),
                           row.scale(group));
  }
}

// bitsandbytes multiplies by this constant, after absmax, instead of dividing by 127.
constexpr float kInverse127 = 7.874015718698502e-3f;

void int8_row(const Int8Rows& rows, int64_t row, int64_t columns, float* out) {
  const float absmax = load<float>(rows.absmax.bytes.data() + 4 * row);
  simd::from_int8(rows.codes.bytes.data() + row * columns, columns, absmax, kInverse127, out);
}

}  // namespace

void dequantize_part(const Weight& weight, int64_t row, int64_t first, int64_t count, float* out) {
  const int64_t start = row * stored_columns(weight) + first;
  if (const auto* dense = std::get_if<DenseWeight>(&weight.storage))
    return dense_part(*dense, start, count, out);
  if (const auto* blocks = std::get_if<FloatBlocks>(&weight.storage))
    return blocks_part(*blocks, start, count, out);
  throw Error(ErrorKind::failed, "part of a row was asked of a codec that is stored by whole rows");
}

void dequantize_rows(const Weight& weight, int64_t begin, int64_t end, float* out) {
  const int64_t columns = stored_columns(weight);
  if (const auto* dense = std::get_if<DenseWeight>(&weight.storage))
    return dense_part(*dense, begin * columns, (end - begin) * columns, out);
  if (const auto* blocks = std::get_if<FloatBlocks>(&weight.storage))
    return blocks_part(*blocks, begin * columns, (end - begin) * columns, out);
  for (int64_t row = begin; row < end; ++row, out += columns) {
    if (const auto* grid = std::get_if<IntegerGrid>(&weight.storage)) {
      grid_row({*grid, columns, row}, out);
    } else if (const auto* ggml = std::get_if<GgmlBlocks>(&weight.storage)) {
      dequantize_ggml(ggml->type, ggml->row_data(row), columns, out);
    } else {
      int8_row(std::get<Int8Rows>(weight.storage), row, columns, out);
    }
  }
}

void dequantize(const Weight& weight, float* out) {
  const int64_t columns = stored_columns(weight);
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 16) / columns);
  parallel_ranges(stored_rows(weight), grain, [&](int64_t begin, int64_t end) {
    dequantize_rows(weight, begin, end, out + begin * columns);
  });
}

void dot_row(const Weight& weight, int64_t row, const float* x, int64_t vectors, int64_t stride, float* y,
             int64_t y_stride, float* scratch) {
  const int64_t columns = stored_columns(weight);
  const auto* grid = std::get_if<IntegerGrid>(&weight.storage);
  if (grid == nullptr || !grid->group_index.empty()) {
    const auto* dense = std::get_if<DenseWeight>(&weight.storage);
    const float* values = scratch;
    if (dense != nullptr && dense->values.dtype == DType::f32 &&
        reinterpret_cast<uintptr_t>(dense->values.bytes.data()) % sizeof(float) == 0) {
      values = reinterpret_cast<const float*>(dense->values.bytes.data()) + row * columns;
    } else {
      dequantize_rows(weight, row, row + 1, scratch);
    }
    for (int64_t v = 0; v < vectors; ++v) y[v * y_stride] = simd::dot(values, x + v * stride, columns);
    return;
  }
  const GridRow source{*grid, columns, row};
  simd::unpack(source.codes(), columns, grid->bits, scratch);
  for (int64_t v = 0; v < vectors; ++v) y[v * y_stride] = 0;
  for (int64_t group = 0, first = 0; first < columns; ++group, first += grid->group_size) {
    const int64_t count = std::min(grid->group_size, columns - first);
    const float zero = source.zero(group), scale = source.scale(group);
    for (int64_t v = 0; v < vectors; ++v)
      y[v * y_stride] += scale * simd::dot_group(scratch + first, x + v * stride + first, zero, count);
  }
}

}  // namespace qwb
