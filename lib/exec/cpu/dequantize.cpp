#include "lib/exec/cpu/dequantize.h"

#include <algorithm>

#include "lib/base/parallel.h"
#include "lib/exec/cpu/decoders.h"

namespace qwb {

void dequantize_rows(const Weight& weight, int64_t begin, int64_t end, float* out) {
  decoder_of(weight).rows(weight, begin, end, out);
}

void dequantize_part(const Weight& weight, int64_t row, int64_t first, int64_t count, float* out) {
  decoder_of(weight).part(weight, row, first, count, out);
}

void dequantize(const Weight& weight, float* out, Threads threads) {
  const int64_t columns = weight.columns();
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 16) / columns);
  parallel_ranges(threads, weight.rows(), grain, [&](int64_t begin, int64_t end) {
    dequantize_rows(weight, begin, end, out + begin * columns);
  });
}

}  // namespace qwb
