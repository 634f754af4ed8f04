#include <algorithm>
#include <array>

#include "lib/codec/fp4_groups.h"
#include "lib/codec/minifloat.h"
#include "lib/exec/cpu/decoders.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {
namespace {

constexpr int64_t kPairsAtOnce = 128;

// Pairs with the first element in the high nibble, as from_nibbles() reads them.
void fp4_run(const std::byte* pairs, int64_t count, float scale, float* out) {
  std::array<std::byte, kPairsAtOnce> turned;
  for (int64_t at = 0; at < count; at += 2 * kPairsAtOnce) {
    const int64_t length = std::min(2 * kPairsAtOnce, count - at);
    for (int64_t i = 0; i < ceil_div(length, 2); ++i) {
      const auto pair = static_cast<uint32_t>(pairs[at / 2 + i]);
      turned[i] = static_cast<std::byte>((pair << 4 | pair >> 4) & 0xff);
    }
    simd::from_nibbles(turned.data(), length, kE2m1, scale, out + at);
  }
}

class Fp4GroupsDecoder final : public Decoder {
 public:
  void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const override {
    for (int64_t row = begin; row < end; ++row, out += weight.in)
      part(weight, row, 0, weight.in, out);
  }
  void part(const Weight& weight, int64_t row, int64_t first, int64_t count,
            float* out) const override {
    const auto& groups = weight.get<Fp4Groups>();
    const std::byte* codes = groups.codes.bytes.data() + row * groups.codes.shape[1];
    for (int64_t at = first, end = first + count; at < end;) {
      const int64_t group = at / groups.group_size;
      const int64_t stop = std::min(end, (group + 1) * groups.group_size);
      const float scale = groups.scale(row, group);
      if (at % 2 != 0) {
        *out++ = kE2m1[static_cast<size_t>(codes[at / 2]) >> 4] * scale;
        ++at;
      }
      fp4_run(codes + at / 2, stop - at, scale, out);
      out += stop - at;
      at = stop;
    }
  }
};

}  // namespace

const Decoder& fp4_groups_decoder() {
  static const Fp4GroupsDecoder decoder;
  return decoder;
}

}  // namespace qwb
