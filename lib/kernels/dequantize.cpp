#include "lib/kernels/dequantize.h"

#include <algorithm>
#include <array>
#include <vector>

#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/kernels/ggml_blocks.h"
#include "lib/kernels/packed_dot.h"
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
    return static_cast<float>(
        code_at(grid.zeros.bytes.data() + row * grid.zeros.shape[1], group, grid.bits));
  }
};

void dense_part(const TensorView& values, int64_t first, int64_t count, float* out) {
  const std::byte* at = values.bytes.data() + first * dtype_size(values.dtype);
  switch (values.dtype) {
    case DType::f16:
      return simd::from_f16(at, count, 1.0f, out);
    case DType::bf16:
      return simd::from_bf16(at, count, out);
    case DType::f32:
      std::memcpy(out, at, static_cast<size_t>(count) * sizeof(float));
      return;
    default:
      for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(load<double>(at + 8 * i));
  }
}

float block_scale(const FloatBlocks& blocks, int64_t block) {
  if (blocks.nested_absmax.empty()) return load<float>(blocks.absmax.bytes.data() + 4 * block);
  const auto index = static_cast<int64_t>(blocks.absmax.bytes[static_cast<size_t>(block)]);
  const float nested =
      load<float>(blocks.nested_absmax.bytes.data() + 4 * (block / blocks.nested_block));
  return load<float>(blocks.nested_map.bytes.data() + 4 * index) * nested + blocks.nested_offset;
}

// Elements [first, first + count) of the flattened matrix.
void blocks_part(const FloatBlocks& blocks, int64_t first, int64_t count, float* out) {
  const auto& table = float_table(blocks.table);
  const std::byte* codes = blocks.codes.bytes.data();
  for (int64_t at = first, end = first + count; at < end;) {
    const int64_t block = at / blocks.block_size;
    const int64_t stop = std::min(end, (block + 1) * blocks.block_size);
    const float scale = block_scale(blocks, block);
    if (at % 2 != 0) {
      *out++ = table[static_cast<size_t>(codes[at / 2]) & 15] * scale;
      ++at;
    }
    simd::from_nibbles(codes + at / 2, stop - at, table, scale, out);
    out += stop - at;
    at = stop;
  }
}

// Columns whose groups are not runs: scales and zero points of the row are looked up one by one.
void scattered_row(const GridRow& row, float* out) {
  static thread_local std::vector<std::array<float, 2>> grids;
  grids.resize(static_cast<size_t>(row.groups()));
  for (int64_t g = 0; g < row.groups(); ++g)
    grids[static_cast<size_t>(g)] = {row.zero(g), row.scale(g)};
  for (int64_t i = 0; i < row.columns; ++i) {
    const auto& [zero, scale] = grids[static_cast<size_t>(row.grid.group(i))];
    out[i] = (out[i] - zero) * scale;
  }
}

void grid_row(const GridRow& row, float* out) {
  simd::unpack(row.codes(), row.columns, row.grid.bits, out);
  if (!row.grid.group_index.empty()) return scattered_row(row, out);
  for (int64_t group = 0, first = 0; first < row.columns; ++group, first += row.grid.group_size) {
    simd::dequantize_group(out + first, std::min(row.grid.group_size, row.columns - first),
                           row.zero(group), row.scale(group));
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
    return dense_part(dense->values, start, count, out);
  if (const auto* blocks = std::get_if<FloatBlocks>(&weight.storage))
    return blocks_part(*blocks, start, count, out);
  throw Error(ErrorKind::failed, "part of a row was asked of a codec that is stored by whole rows");
}

void dequantize_rows(const Weight& weight, int64_t begin, int64_t end, float* out) {
  const int64_t columns = stored_columns(weight);
  if (const auto* dense = std::get_if<DenseWeight>(&weight.storage))
    return dense_part(dense->values, begin * columns, (end - begin) * columns, out);
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

void dequantize(const Weight& weight, float* out, Threads threads) {
  const int64_t columns = stored_columns(weight);
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 16) / columns);
  parallel_ranges(threads, stored_rows(weight), grain, [&](int64_t begin, int64_t end) {
    dequantize_rows(weight, begin, end, out + begin * columns);
  });
}

namespace {

// The vectors that dot_row multiplies a row with.
struct Vectors {
  const float* x;
  int64_t count, stride;
  float* y;
  int64_t y_stride;

  // dot(x): the product with one of them.
  template <class Dot>
  bool each(const Dot& dot) const {
    for (int64_t v = 0; v < count; ++v) y[v * y_stride] = dot(x + v * stride);
    return true;
  }
};

// Each of these multiplies without unpacking, or returns false.
bool dot_dense(const DenseWeight& dense, int64_t row, int64_t columns, const Vectors& vectors) {
  const std::byte* at = dense.values.bytes.data() + row * columns * dtype_size(dense.values.dtype);
  switch (dense.values.dtype) {
    case DType::f16:
      return vectors.each([&](const float* x) { return simd::dot_f16(at, x, columns); });
    case DType::bf16:
      return vectors.each([&](const float* x) { return simd::dot_bf16(at, x, columns); });
    case DType::f32:
      if (reinterpret_cast<uintptr_t>(at) % sizeof(float) != 0) return false;
      return vectors.each([&](const float* x) {
        return simd::dot(reinterpret_cast<const float*>(at), x, columns);
      });
    default:
      return false;
  }
}

bool dot_grid(const GridRow& row, const Vectors& vectors, float* scratch) {
  const IntegerGrid& grid = row.grid;
  if (!grid.group_index.empty() || !simd::dots_grid(grid.bits) || grid.group_size % 8 != 0 ||
      row.columns % 8 != 0)
    return false;
  float *scales = scratch, *zeros = scratch + row.groups();
  dense_part(grid.scales, row.row * row.groups(), row.groups(), scales);
  for (int64_t g = 0; g < row.groups(); ++g) zeros[g] = row.zero(g);
  const simd::GroupedRow packed{row.codes(), row.columns, grid.group_size, scales};
  return vectors.each([&](const float* x) { return simd::dot_grid(packed, grid.bits, zeros, x); });
}

bool dot_blocks(const FloatBlocks& blocks, int64_t row, int64_t columns, const Vectors& vectors,
                float* scratch) {
  if (blocks.block_size % 8 != 0 || columns % blocks.block_size != 0) return false;
  const int64_t count = columns / blocks.block_size;
  for (int64_t b = 0; b < count; ++b) scratch[b] = block_scale(blocks, row * count + b);
  const simd::GroupedRow packed{blocks.codes.bytes.data() + row * columns / 2, columns,
                                blocks.block_size, scratch};
  const float* table = float_table(blocks.table).data();
  return vectors.each([&](const float* x) { return simd::dot_table(packed, table, x); });
}

bool dot_ggml(const GgmlBlocks& ggml, int64_t row, int64_t columns, const Vectors& vectors) {
  const std::byte* at = ggml.row_data(row);
  switch (ggml.type) {
    case GgmlType::q4_0:
      return vectors.each([&](const float* x) { return simd::dot_q4_0(at, x, columns); });
    case GgmlType::q4_1:
      return vectors.each([&](const float* x) { return simd::dot_q4_1(at, x, columns); });
    case GgmlType::q8_0:
      return vectors.each([&](const float* x) { return simd::dot_q8_0(at, x, columns); });
    default:
      return false;
  }
}

bool dot_int8(const Int8Rows& rows, int64_t row, int64_t columns, const Vectors& vectors) {
  const float scale = load<float>(rows.absmax.bytes.data() + 4 * row) * kInverse127;
  const std::byte* codes = rows.codes.bytes.data() + row * columns;
  return vectors.each([&](const float* x) { return simd::dot_int8(codes, x, columns) * scale; });
}

bool dot_packed(const Weight& weight, int64_t row, const Vectors& vectors, float* scratch) {
  const int64_t columns = stored_columns(weight);
  if (const auto* dense = std::get_if<DenseWeight>(&weight.storage))
    return dot_dense(*dense, row, columns, vectors);
  if (const auto* grid = std::get_if<IntegerGrid>(&weight.storage))
    return dot_grid({*grid, columns, row}, vectors, scratch);
  if (const auto* blocks = std::get_if<FloatBlocks>(&weight.storage))
    return dot_blocks(*blocks, row, columns, vectors, scratch);
  if (const auto* ggml = std::get_if<GgmlBlocks>(&weight.storage))
    return dot_ggml(*ggml, row, columns, vectors);
  return dot_int8(std::get<Int8Rows>(weight.storage), row, columns, vectors);
}

}  // namespace

void dot_row(const Weight& weight, int64_t row, const float* x, int64_t vectors, int64_t stride,
             float* y, int64_t y_stride, float* scratch) {
  const Vectors all{x, vectors, stride, y, y_stride};
  if (dot_packed(weight, row, all, scratch)) return;
  const int64_t columns = stored_columns(weight);
  dequantize_rows(weight, row, row + 1, scratch);
  all.each([&](const float* vector) { return simd::dot(scratch, vector, columns); });
}

}  // namespace qwb
