#include <cstring>

#include "lib/codec/dense.h"
#include "lib/exec/cpu/decoders.h"
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

std::optional<simd::Packing> dense_packing(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return simd::Packing::f32;
    case DType::f16:
      return simd::Packing::f16;
    case DType::bf16:
      return simd::Packing::bf16;
    default:
      return {};
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
  std::optional<simd::PackedRows> packed(const Weight& weight) const override {
    const TensorView& values = weight.get<DenseWeight>().values;
    const auto packing = dense_packing(values.dtype);
    if (!packing) return {};
    const int64_t columns = weight.columns();
    return simd::PackedRows{*packing, values.bytes.data(), columns * dtype_size(values.dtype),
                            columns};
  }
};

}  // namespace

const Decoder& dense_decoder() {
  static const DenseDecoder decoder;
  return decoder;
}

}  // namespace qwb
