// Stored weights to f32, whatever their codec (decoders.h). Encoding::decode_row() says
// what they are.
#pragma once

#include <cstdint>

#include "lib/base/threads.h"
#include "lib/codec/weight.h"

namespace qwb {

// Rows [begin, end) of the stored matrix into out [end - begin, columns]. Runs in the calling
// thread.
void dequantize_rows(const Weight& weight, int64_t begin, int64_t end, float* out);
// Columns [first, first + count) of one row.
void dequantize_part(const Weight& weight, int64_t row, int64_t first, int64_t count, float* out);
// The whole stored matrix, on so many threads.
void dequantize(const Weight& weight, float* out, Threads threads = {});

}  // namespace qwb
