// How other libraries arrange codes: 32-bit words, matrices that lie the other way round.
// Everything runs on all threads.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/base/context.h"
#include "lib/codec/integer_grid.h"
#include "lib/codec/weight.h"

namespace qwb {

// out [columns, rows] = the transposed matrix of elements of 1, 2 or 4 bytes.
Tensor transposed(const TensorView& matrix, const Context& context = {});

// A matrix of words I32 [words, columns] whose columns are bit streams (least significant bit
// first, from one word to the next) becomes rows of bytes U8 [columns, row_bytes], row_bytes <= 4 *
// words; and back, the last word filled up with zero bits.
Tensor streams_from_columns(const TensorView& words, int64_t row_bytes,
                            const Context& context = {});
Tensor streams_to_columns(const TensorView& rows, const Context& context = {});

// Small matrices of codes, one byte each, row-major.
struct CodeMatrix {
  int64_t rows = 0, columns = 0;
  std::vector<uint8_t> codes;

  CodeMatrix() = default;
  CodeMatrix(int64_t r, int64_t c, uint8_t value = 0)
      : rows(r), columns(c), codes(static_cast<size_t>(checked_mul(r, c, "codes")), value) {}
  uint8_t& at(int64_t r, int64_t c) { return codes[r * columns + c]; }
  CodeMatrix transpose(const Context& context = {}) const;
  bool all(uint8_t value) const;
};

// Rows of words I32 [rows, ceil(columns * bits / 32)], each a bit stream; padding bits are zero
// when packed and not looked at when unpacked.
Tensor pack_words(const CodeMatrix& matrix, int bits, const Context& context = {});
CodeMatrix unpack_words(const TensorView& words, int64_t columns, int bits,
                        const Context& context = {});
// Rows of bytes U8 [rows, packed_bytes(columns, bits)], as the integer grid has them.
Tensor pack_rows(const CodeMatrix& matrix, int bits, const Context& context = {});
CodeMatrix unpack_rows(const TensorView& rows, int64_t columns, int bits,
                       const Context& context = {});

// The zero points of a grid, [out, groups]; 2^(bits-1) everywhere if it is symmetric.
CodeMatrix grid_zeros(const IntegerGrid& grid, int64_t out, const Context& context = {});

// I32 [in]: the group of every column.
Tensor group_index_tensor(const IntegerGrid& grid, int64_t in);
// True if the column's groups are i / group_size.
bool is_plain_group_index(const TensorView& index, int64_t group_size);

}  // namespace qwb
