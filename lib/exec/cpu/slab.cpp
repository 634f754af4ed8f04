#include "lib/exec/cpu/slab.h"

#include <algorithm>

#include "lib/base/parallel.h"
#include "lib/codec/dense.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/tensor/tensor.h"

namespace qwb {
namespace {

constexpr int64_t kSlabFloats = 4 << 20;  // dequantized weights held at a time: 16 MB

float* slab_scratch(int64_t count) {
  static thread_local FloatBuffer buffer;
  if (buffer.size() < count) buffer = FloatBuffer(count);
  return buffer.data();
}

}  // namespace

const float* slab(const Weight& weight, int64_t begin, int64_t end, Threads threads) {
  const int64_t columns = weight.columns();
  if (const auto* dense = weight.as<DenseWeight>()) {
    const std::byte* data = dense->values.bytes.data();
    if (dense->values.dtype == DType::f32 &&
        reinterpret_cast<uintptr_t>(data) % sizeof(float) == 0) {
      return reinterpret_cast<const float*>(data) + begin * columns;
    }
  }
  float* target = slab_scratch((end - begin) * columns);
  parallel_ranges(threads, end - begin, std::max<int64_t>(1, (int64_t{1} << 16) / columns),
                  [&](int64_t first, int64_t last) {
                    dequantize_rows(weight, begin + first, begin + last, target + first * columns);
                  });
  return target;
}

int64_t slab_rows(const Weight& weight) {
  return std::max<int64_t>(1, kSlabFloats / weight.columns());
}

}  // namespace qwb
