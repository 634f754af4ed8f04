// Stored weights to f32, whatever their codec. The plain functions in reference.cpp do the same one
// element at a time.
#pragma once

#include <cstdint>

#include "lib/base/threads.h"
#include "lib/tensor/weight.h"

namespace qwb {

// Rows and columns of the stored matrix: [out, in] or, oriented in_out, [in, out].
inline int64_t stored_rows(const Weight& weight) {
  return weight.orientation == Orientation::out_in ? weight.out : weight.in;
}
inline int64_t stored_columns(const Weight& weight) {
  return weight.orientation == Orientation::out_in ? weight.in : weight.out;
}

// Rows [begin, end) of the stored matrix into out [end - begin, columns]. Runs in the calling
// thread.
void dequantize_rows(const Weight& weight, int64_t begin, int64_t end, float* out);
// Columns [first, first + count) of one row. Dense and float-block storage only (the others are
// never stored [in, out]).
void dequantize_part(const Weight& weight, int64_t row, int64_t first, int64_t count, float* out);
// The whole stored matrix, on so many threads.
void dequantize(const Weight& weight, float* out, Threads threads = {});

// Dot product of row `row` with x [columns], for `vectors` vectors at distance `stride`; y[v *
// y_stride] receives them. Runs in the calling thread. scratch: stored_columns floats.
void dot_row(const Weight& weight, int64_t row, const float* x, int64_t vectors, int64_t stride,
             float* y, int64_t y_stride, float* scratch);

}  // namespace qwb
