#include "lib/codec/int8_rows.h"
#include "lib/exec/cpu/decoders.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {
namespace {

// bitsandbytes multiplies by this constant, after absmax, instead of dividing by 127.
constexpr float kInverse127 = 7.874015718698502e-3f;

void int8_row(const Int8Rows& rows, int64_t row, int64_t columns, float* out) {
  const float absmax = load<float>(rows.absmax.bytes.data() + 4 * row);
  simd::from_int8(rows.codes.bytes.data() + row * columns, columns, absmax, kInverse127, out);
}

class Int8RowsDecoder final : public Decoder {
 public:
  void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const override {
    const auto& codes = weight.get<Int8Rows>();
    for (int64_t row = begin; row < end; ++row, out += weight.in)
      int8_row(codes, row, weight.in, out);
  }
  std::optional<simd::PackedRows> packed(const Weight& weight) const override {
    const auto& rows = weight.get<Int8Rows>();
    simd::PackedRows packed{simd::Packing::int8, rows.codes.bytes.data(), weight.in, weight.in};
    packed.group = weight.in;
    packed.scales.values = rows.absmax.bytes;
    packed.scales.factor = kInverse127;
    return packed;
  }
};

}  // namespace

const Decoder& int8_rows_decoder() {
  static const Int8RowsDecoder decoder;
  return decoder;
}

}  // namespace qwb
