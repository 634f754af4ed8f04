// Matrices of activations: MatView looks at numbers that lie on a device, Matrix owns them.
#pragma once

#include <cstdint>
#include <type_traits>

#include "lib/tensor/device.h"
#include "lib/tensor/tensor.h"

namespace qwb {

// rows x columns, `stride` values from row to row. Only for passing on: `data` is for operations
// alone, unless the device is the host (null).
template <class T>
struct MatView {
  T* data = nullptr;
  int64_t rows = 0, columns = 0, stride = 0;
  const Device* device = nullptr;

  MatView() = default;
  MatView(T* values, int64_t row_count, int64_t column_count, const Device* where = nullptr)
      : MatView(values, row_count, column_count, column_count, where) {}
  MatView(T* values, int64_t row_count, int64_t column_count, int64_t row_stride,
          const Device* where)
      : data(values), rows(row_count), columns(column_count), stride(row_stride), device(where) {}
  template <class U, class = std::enable_if_t<std::is_same_v<const U, T>>>
  MatView(const MatView<U>& other)
      : MatView(other.data, other.rows, other.columns, other.stride, other.device) {}

  bool empty() const { return data == nullptr; }
  int64_t count() const { return rows * columns; }
  // Rows follow each other without gaps.
  bool dense() const { return stride == columns || rows < 2; }
  // Parts of it, which share its memory.
  MatView row_range(int64_t first, int64_t number) const {
    return {data + first * stride, number, columns, stride, device};
  }
  MatView column_range(int64_t first, int64_t number) const {
    return {data + first, rows, number, stride, device};
  }
  // The first row_count * column_count values of a dense one as rows of another width.
  MatView as(int64_t row_count, int64_t column_count) const {
    return {data, row_count, column_count, device};
  }
};

// The operands of operations: read, and written.
using In = MatView<const float>;
using Out = MatView<float>;

// f32, dense, uninitialised; told to the memory ledger. Movable.
class Matrix {
 public:
  Matrix() = default;
  Matrix(int64_t rows, int64_t columns, MemoryKind kind, const Device* device = nullptr)
      : buffer_(checked_mul(checked_mul(rows, columns, "matrix"), sizeof(float), "matrix"), kind,
                device),
        rows_(rows),
        columns_(columns),
        device_(device) {}
  Out view() const { return {reinterpret_cast<float*>(buffer_.data()), rows_, columns_, device_}; }
  operator Out() const { return view(); }
  operator In() const { return view(); }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t bytes() const { return buffer_.size(); }

 private:
  AlignedBuffer buffer_;
  int64_t rows_ = 0, columns_ = 0;
  const Device* device_ = nullptr;
};

}  // namespace qwb
