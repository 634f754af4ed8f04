#include <stdexcept>

#include "lib/codec/ggml_blocks.h"
#include "lib/exec/cpu/decoders.h"
#include "lib/exec/cpu/ggml_blocks.h"

namespace qwb {
namespace {

simd::Packing ggml_packing(GgmlType type) {
  using simd::Packing;
  switch (type) {
    case GgmlType::f32:
      return Packing::f32;
    case GgmlType::f16:
      return Packing::f16;
    case GgmlType::bf16:
      return Packing::bf16;
    case GgmlType::q4_0:
      return Packing::q4_0;
    case GgmlType::q4_1:
      return Packing::q4_1;
    case GgmlType::q5_0:
      return Packing::q5_0;
    case GgmlType::q5_1:
      return Packing::q5_1;
    case GgmlType::q8_0:
      return Packing::q8_0;
    case GgmlType::q2_k:
      return Packing::q2_k;
    case GgmlType::q3_k:
      return Packing::q3_k;
    case GgmlType::q4_k:
      return Packing::q4_k;
    case GgmlType::q5_k:
      return Packing::q5_k;
    case GgmlType::q6_k:
      return Packing::q6_k;
    case GgmlType::iq4_nl:
      return Packing::iq4_nl;
    case GgmlType::iq4_xs:
      return Packing::iq4_xs;
    case GgmlType::mxfp4:
      return Packing::mxfp4;
  }
  throw std::logic_error("not a ggml type");
}

class GgmlBlocksDecoder final : public Decoder {
 public:
  void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const override {
    const auto& ggml = weight.get<GgmlBlocks>();
    for (int64_t row = begin; row < end; ++row, out += weight.in)
      dequantize_ggml(ggml.type, ggml.row_data(row), weight.in, out);
  }
  std::optional<simd::PackedRows> packed(const Weight& weight) const override {
    const auto& ggml = weight.get<GgmlBlocks>();
    simd::PackedRows packed{ggml_packing(ggml.type), ggml.blocks.bytes.data(), ggml.blocks.shape[1],
                            weight.in};
    packed.head_rows = ggml.head_rows;
    return packed;
  }
};

}  // namespace

const Decoder& ggml_blocks_decoder() {
  static const GgmlBlocksDecoder decoder;
  return decoder;
}

}  // namespace qwb
