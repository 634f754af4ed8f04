// Stored weights to f32, whatever their codec (decoders.h). Encoding::decode_row() says
// what they are.
#pragma once

#include <cstdint>

#include "lib/base/threads.h"
#include "lib/codec/weight.h"
#include "lib/exec/cpu/decoders.h"

namespace qwb {

// Rows [begin, end) of the stored matrix into out [end - begin, columns]. Runs in the calling
// thread.
void dequantize_rows(const Weight& weight, int64_t begin, int64_t end, float* out);
// Columns [first, first + count) of one row.
void dequantize_part(const Weight& weight, int64_t row, int64_t first, int64_t count, float* out);
// The whole stored matrix, on so many threads.
void dequantize(const Weight& weight, float* out, Threads threads = {});

// Dot products of row `row` with vectors of weight.columns() floats. Runs in the calling thread.
// scratch: weight.columns() floats.
void dot_row(const Weight& weight, int64_t row, const Vectors& vectors, float* scratch);

}  // namespace qwb
