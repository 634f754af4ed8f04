#include <cstring>

#include "lib/codec/dense.h"
#include "lib/exec/cpu/decoders.h"
#include "lib/exec/cpu/packed_dot.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {

void decode_floats(const TensorView& values, int64_t first, int64_t count, float* out) {
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

namespace {

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

class DenseDecoder final : public Decoder {
 public:
  void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const override {
    const int64_t columns = weight.columns();
    decode_floats(weight.get<DenseWeight>().values, begin * columns, (end - begin) * columns, out);
  }
  void part(const Weight& weight, int64_t row, int64_t first, int64_t count,
            float* out) const override {
    decode_floats(weight.get<DenseWeight>().values, row * weight.columns() + first, count, out);
  }
  bool dot(const Weight& weight, int64_t row, const Vectors& vectors,
           float* /*scratch*/) const override {
    return dot_dense(weight.get<DenseWeight>(), row, weight.columns(), vectors);
  }
};

}  // namespace

const Decoder& dense_decoder() {
  static const DenseDecoder decoder;
  return decoder;
}

}  // namespace qwb
