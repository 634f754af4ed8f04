#include <algorithm>
#include <array>
#include <cmath>

#include "lib/codec/fp8_blocks.h"
#include "lib/codec/minifloat.h"
#include "lib/exec/cpu/decoders.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {
namespace {

constexpr int64_t kHalvesAtOnce = 256;
// E4M3's bits are those of an f16 whose exponent has another bias: 15 instead of 7.
constexpr float kHalfFactor = 256;

// The codes of one block of one row. NaN has other bits in f16; readers refuse it.
void fp8_run(const std::byte* codes, int64_t count, float scale, float* out) {
  const float factor = kHalfFactor * scale;
  if (!std::isfinite(factor)) {
    for (int64_t i = 0; i < count; ++i) out[i] = e4m3_value(static_cast<uint8_t>(codes[i])) * scale;
    return;
  }
  std::array<uint16_t, kHalvesAtOnce> halves;
  for (int64_t at = 0; at < count; at += kHalvesAtOnce) {
    const int64_t length = std::min(kHalvesAtOnce, count - at);
    for (int64_t i = 0; i < length; ++i) {
      const auto code = static_cast<uint32_t>(codes[at + i]);
      halves[i] = static_cast<uint16_t>((code & 0x80) << 8 | (code & 0x7f) << 7);
    }
    simd::from_f16(reinterpret_cast<const std::byte*>(halves.data()), length, factor, out + at);
  }
}

class Fp8BlocksDecoder final : public Decoder {
 public:
  void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const override {
    for (int64_t row = begin; row < end; ++row, out += weight.in)
      part(weight, row, 0, weight.in, out);
  }
  void part(const Weight& weight, int64_t row, int64_t first, int64_t count,
            float* out) const override {
    const auto& blocks = weight.get<Fp8Blocks>();
    const std::byte* codes = blocks.codes.bytes.data() + row * weight.in;
    for (int64_t at = first, end = first + count; at < end;) {
      const int64_t block = at / blocks.block_columns;
      const int64_t stop = std::min(end, (block + 1) * blocks.block_columns);
      fp8_run(codes + at, stop - at, blocks.scale(row / blocks.block_rows, block),
              out + (at - first));
      at = stop;
    }
  }
};

}  // namespace

const Decoder& fp8_blocks_decoder() {
  static const Fp8BlocksDecoder decoder;
  return decoder;
}

}  // namespace qwb
