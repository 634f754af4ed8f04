#include "formats/hf/packing.h"

#include <algorithm>
#include <array>

#include "lib/base/parallel.h"
#include "lib/codec/integer_grid.h"

namespace qwb {
namespace {

// A 32 x 32 tile of words and its transpose fit the L1 cache; rows of a tile are two cache lines.
constexpr int64_t kTransposeTile = 32;

template <typename T>
void transpose_matrix(const std::byte* in, int64_t rows, int64_t columns, T* out,
                      const Context& context) {
  parallel_for(context, ceil_div(columns, kTransposeTile), [&](int64_t tile) {
    const int64_t c0 = tile * kTransposeTile, width = std::min(kTransposeTile, columns - c0);
    for (int64_t r0 = 0; r0 < rows; r0 += kTransposeTile) {
      const int64_t height = std::min(kTransposeTile, rows - r0);
      std::array<T, kTransposeTile * kTransposeTile> block;
      for (int64_t r = 0; r < height; ++r) {
        std::memcpy(&block[r * kTransposeTile],
                    in + ((r0 + r) * columns + c0) * static_cast<int64_t>(sizeof(T)),
                    static_cast<size_t>(width) * sizeof(T));
      }
      for (int64_t c = 0; c < width; ++c) {
        T* row = out + (c0 + c) * rows + r0;
        for (int64_t r = 0; r < height; ++r) row[r] = block[r * kTransposeTile + c];
      }
    }
  });
}

}  // namespace

Tensor transposed(const TensorView& matrix, const Context& context) {
  const int64_t rows = matrix.shape.at(0), columns = matrix.shape.at(1);
  Tensor result(matrix.dtype, {columns, rows});
  const std::byte* in = matrix.bytes.data();
  switch (dtype_size(matrix.dtype)) {
    case 1:
      transpose_matrix(in, rows, columns, result.data<uint8_t>(), context);
      break;
    case 2:
      transpose_matrix(in, rows, columns, result.data<uint16_t>(), context);
      break;
    case 4:
      transpose_matrix(in, rows, columns, result.data<uint32_t>(), context);
      break;
    default:
      throw Error(ErrorKind::unsupported, "elements of 8 bytes are not transposed");
  }
  return result;
}

Tensor streams_from_columns(const TensorView& words, int64_t row_bytes, const Context& context) {
  const int64_t columns = words.shape.at(1), stride = 4 * words.shape.at(0);
  Tensor rows(DType::u8, {columns, row_bytes});
  if (stride == row_bytes) {
    transpose_matrix(words.bytes.data(), words.shape[0], columns, rows.data<uint32_t>(), context);
    return rows;
  }
  const Tensor whole = transposed(words, context);
  const std::byte* from = whole.view().bytes.data();
  std::byte* to = rows.bytes().data();
  for (int64_t c = 0; c < columns; ++c)
    std::memcpy(to + c * row_bytes, from + c * stride, static_cast<size_t>(row_bytes));
  return rows;
}

Tensor streams_to_columns(const TensorView& rows, const Context& context) {
  const int64_t columns = rows.shape.at(0), row_bytes = rows.shape.at(1),
                words = ceil_div(row_bytes, 4);
  if (row_bytes == 4 * words)
    return transposed({DType::i32, {columns, words}, rows.bytes}, context);
  Tensor padded(DType::i32, {columns, words});
  std::byte* to = padded.bytes().data();
  std::fill(to, to + padded.bytes().size(), std::byte{0});
  for (int64_t c = 0; c < columns; ++c)
    std::memcpy(to + c * 4 * words, rows.bytes.data() + c * row_bytes,
                static_cast<size_t>(row_bytes));
  return transposed(padded.view(), context);
}

CodeMatrix CodeMatrix::transpose(const Context& context) const {
  CodeMatrix result(columns, rows);
  transpose_matrix(reinterpret_cast<const std::byte*>(codes.data()), rows, columns,
                   result.codes.data(), context);
  return result;
}

bool CodeMatrix::all(uint8_t value) const {
  return codes.empty() ||
         (codes[0] == value && std::memcmp(codes.data(), codes.data() + 1, codes.size() - 1) == 0);
}

namespace {

// Rows that one item packs or unpacks.
int64_t rows_at_once(int64_t columns) {
  return std::max<int64_t>(1, (int64_t{1} << 16) / std::max<int64_t>(1, columns));
}

void pack_matrix(const CodeMatrix& matrix, int bits, int64_t stride, std::byte* out,
                 const Context& context) {
  parallel_ranges(context, matrix.rows, rows_at_once(matrix.columns),
                  [&](int64_t begin, int64_t end) {
                    std::fill(out + begin * stride, out + end * stride, std::byte{0});
                    for (int64_t r = begin; r < end; ++r)
                      pack_codes(matrix.codes.data() + r * matrix.columns, matrix.columns, bits,
                                 out + r * stride);
                  });
}

CodeMatrix unpack_matrix(const TensorView& packed, int64_t stride, int64_t columns, int bits,
                         const Context& context) {
  CodeMatrix matrix(packed.shape.at(0), columns);
  parallel_ranges(context, matrix.rows, rows_at_once(columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      unpack_codes(packed.bytes.data() + r * stride, columns, bits,
                   matrix.codes.data() + r * columns);
  });
  return matrix;
}

}  // namespace

Tensor pack_words(const CodeMatrix& matrix, int bits, const Context& context) {
  const int64_t words = ceil_div(matrix.columns * bits, 32);
  Tensor result(DType::i32, {matrix.rows, words});
  pack_matrix(matrix, bits, 4 * words, result.bytes().data(), context);
  return result;
}

CodeMatrix unpack_words(const TensorView& words, int64_t columns, int bits,
                        const Context& context) {
  return unpack_matrix(words, 4 * words.shape.at(1), columns, bits, context);
}

Tensor pack_rows(const CodeMatrix& matrix, int bits, const Context& context) {
  const int64_t stride = packed_bytes(matrix.columns, bits);
  Tensor result(DType::u8, {matrix.rows, stride});
  pack_matrix(matrix, bits, stride, result.bytes().data(), context);
  return result;
}

CodeMatrix unpack_rows(const TensorView& rows, int64_t columns, int bits, const Context& context) {
  return unpack_matrix(rows, rows.shape.at(1), columns, bits, context);
}

CodeMatrix grid_zeros(const IntegerGrid& grid, int64_t out, const Context& context) {
  const int64_t groups = grid.scales.shape.at(1);
  if (grid.symmetric()) return {out, groups, static_cast<uint8_t>(1 << (grid.bits - 1))};
  return unpack_rows(grid.zeros, groups, grid.bits, context);
}

Tensor group_index_tensor(const IntegerGrid& grid, int64_t in) {
  Tensor index(DType::i32, {in});
  for (int64_t i = 0; i < in; ++i) index.data<int32_t>()[i] = static_cast<int32_t>(grid.group(i));
  return index;
}

bool is_plain_group_index(const TensorView& index, int64_t group_size) {
  for (int64_t i = 0; i < index.count(); ++i) {
    if (load<int32_t>(index.bytes.data() + 4 * i) != i / group_size) return false;
  }
  return true;
}

}  // namespace qwb
