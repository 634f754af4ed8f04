#include "lib/codec/ggml_blocks.h"
#include "lib/exec/cpu/decoders.h"
#include "lib/exec/cpu/ggml_blocks.h"
#include "lib/exec/cpu/packed_dot.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {
namespace {

bool dot_ggml(const GgmlBlocks& ggml, int64_t row, int64_t columns, const Vectors& vectors) {
  const std::byte* at = ggml.row_data(row);
  switch (ggml.type) {
    case GgmlType::q4_0:
      return vectors.each([&](const float* x) { return simd::dot_q4_0(at, x, columns); });
    case GgmlType::q4_1:
      return vectors.each([&](const float* x) { return simd::dot_q4_1(at, x, columns); });
    case GgmlType::q8_0:
      return vectors.each([&](const float* x) { return simd::dot_q8_0(at, x, columns); });
    default:
      return false;
  }
}

class GgmlBlocksDecoder final : public Decoder {
 public:
  void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const override {
    const auto& ggml = weight.get<GgmlBlocks>();
    for (int64_t row = begin; row < end; ++row, out += weight.in)
      dequantize_ggml(ggml.type, ggml.row_data(row), weight.in, out);
  }
  bool dot(const Weight& weight, int64_t row, const Vectors& vectors,
           float* /*scratch*/) const override {
    return dot_ggml(weight.get<GgmlBlocks>(), row, weight.in, vectors);
  }
};

}  // namespace

const Decoder& ggml_blocks_decoder() {
  static const GgmlBlocksDecoder decoder;
  return decoder;
}

}  // namespace qwb
