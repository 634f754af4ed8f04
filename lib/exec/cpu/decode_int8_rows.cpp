#include "lib/codec/int8_rows.h"
#include "lib/exec/cpu/decoders.h"
#include "lib/exec/cpu/packed_dot.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {
namespace {

// bitsandbytes multiplies by this constant, after absmax, instead of dividing by 127.
constexpr float kInverse127 = 7.874015718698502e-3f;

void int8_row(const Int8Rows& rows, int64_t row, int64_t columns, float* out) {
  const float absmax = load<float>(rows.absmax.bytes.data() + 4 * row);
  simd::from_int8(rows.codes.bytes.data() + row * columns, columns, absmax, kInverse127, out);
}

bool dot_int8(const Int8Rows& rows, int64_t row, int64_t columns, const Vectors& vectors) {
  const float scale = load<float>(rows.absmax.bytes.data() + 4 * row) * kInverse127;
  const std::byte* codes = rows.codes.bytes.data() + row * columns;
  return vectors.each([&](const float* x) { return simd::dot_int8(codes, x, columns) * scale; });
}

class Int8RowsDecoder final : public Decoder {
 public:
  void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const override {
    const auto& codes = weight.get<Int8Rows>();
    for (int64_t row = begin; row < end; ++row, out += weight.in)
      int8_row(codes, row, weight.in, out);
  }
  bool dot(const Weight& weight, int64_t row, const Vectors& vectors,
           float* /*scratch*/) const override {
    return dot_int8(weight.get<Int8Rows>(), row, weight.in, vectors);
  }
};

}  // namespace

const Decoder& int8_rows_decoder() {
  static const Int8RowsDecoder decoder;
  return decoder;
}

}  // namespace qwb
