// One value at a time, by the formulas of formats/gguf/gguf.md.
#include "lib/base/error.h"
#include "lib/base/half.h"
#include "lib/codec/ggml_blocks.h"

namespace qwb {
namespace {

struct BlockBytes {
  const std::byte* data;
  int at(int offset) const { return static_cast<int>(data[offset]); }
  float half(int offset) const { return f16_to_f32(load<uint16_t>(data + offset)); }
  // Nibble of value i among the 16 bytes from `offset`.
  int nibble(int offset, int i) const {
    return i < 16 ? at(offset + i) & 15 : at(offset + i - 16) >> 4;
  }
  int bit(int offset, int i) const {
    return static_cast<int>(load<uint32_t>(data + offset) >> i & 1u);
  }
};

// The six-bit scale (or minimum) of sub-block u in the twelve bytes at offset 4.
int packed_scale(const BlockBytes& b, int u) {
  return u < 4 ? b.at(4 + u) & 63 : (b.at(8 + u) & 15) | (b.at(u) >> 6) << 4;
}
int packed_minimum(const BlockBytes& b, int u) {
  return u < 4 ? b.at(8 + u) & 63 : (b.at(8 + u) >> 4) | (b.at(4 + u) >> 6) << 4;
}

float affine(const BlockBytes& b, int u, int code) {
  return b.half(0) * static_cast<float>(packed_scale(b, u)) * static_cast<float>(code) -
         b.half(2) * static_cast<float>(packed_minimum(b, u));
}

float k_element(GgmlType type, const BlockBytes& b, int i) {
  const int l = i % 32, n = i / 128, j = i % 128 / 32, u = i / 32;
  const int s = 8 * n + 2 * j + l / 16;
  if (type == GgmlType::q2_k) {
    const int q = (b.at(16 + 32 * n + l) >> (2 * j)) & 3;
    return b.half(80) * static_cast<float>(b.at(s) & 15) * static_cast<float>(q) -
           b.half(82) * static_cast<float>(b.at(s) >> 4);
  }
  if (type == GgmlType::q3_k) {
    const int low = (b.at(32 + 32 * n + l) >> (2 * j)) & 3;
    const int high = (b.at(l) >> (4 * n + j)) & 1;
    const int scale = (s < 8 ? b.at(96 + s) & 15 : b.at(88 + s) >> 4) |
                      ((b.at(104 + s % 4) >> (2 * (s / 4))) & 3) << 4;
    return b.half(108) * static_cast<float>(scale - 32) *
           static_cast<float>(low - (high != 0 ? 0 : 4));
  }
  const auto nibble = [&](int offset) {
    const int byte = b.at(offset + 32 * (i / 64) + l);
    return i % 64 < 32 ? byte & 15 : byte >> 4;
  };
  if (type == GgmlType::q4_k) return affine(b, u, nibble(16));
  if (type == GgmlType::q5_k) return affine(b, u, nibble(48) + 16 * ((b.at(16 + l) >> u) & 1));
  const int byte = b.at(64 * n + 32 * (j & 1) + l);
  const int code = (j < 2 ? byte & 15 : byte >> 4) | ((b.at(128 + 32 * n + l) >> (2 * j)) & 3) << 4;
  const auto scale = static_cast<float>(static_cast<int8_t>(b.at(192 + s)));
  return b.half(208) * scale * static_cast<float>(code - 32);
}

// The scale of a run of 32 in a block of IQ4_XS: six bits, less 32.
float iq4_xs_scale(const BlockBytes& b, int run) {
  const int low = b.at(4 + run / 2) >> (4 * (run % 2)) & 15;
  const int high = (b.at(2) | b.at(3) << 8) >> (2 * run) & 3;
  return b.half(0) * static_cast<float>((low | high << 4) - 32);
}

}  // namespace

float reference_ggml_element(GgmlType type, const std::byte* block, int i) {
  const BlockBytes b{block};
  switch (type) {
    case GgmlType::f32:
      return load<float>(block);
    case GgmlType::f16:
      return b.half(0);
    case GgmlType::bf16:
      return bf16_to_f32(load<uint16_t>(block));
    case GgmlType::q4_0:
      return static_cast<float>(b.nibble(2, i) - 8) * b.half(0);
    case GgmlType::q4_1:
      return static_cast<float>(b.nibble(4, i)) * b.half(0) + b.half(2);
    case GgmlType::q5_0:
      return static_cast<float>((b.nibble(6, i) | b.bit(2, i) << 4) - 16) * b.half(0);
    case GgmlType::q5_1:
      return static_cast<float>(b.nibble(8, i) | b.bit(4, i) << 4) * b.half(0) + b.half(2);
    case GgmlType::q8_0:
      return static_cast<float>(static_cast<int8_t>(b.at(2 + i))) * b.half(0);
    case GgmlType::iq4_nl:
      return b.half(0) * static_cast<float>(kIq4Values[b.nibble(2, i)]);
    case GgmlType::iq4_xs:
      return iq4_xs_scale(b, i / 32) *
             static_cast<float>(kIq4Values[b.nibble(8 + 16 * (i / 32), i % 32)]);
    case GgmlType::mxfp4:
      return static_cast<float>(kMxfp4Values[b.nibble(1, i)]) * ggml_mxfp4_scale(b.at(0));
    default:
      return k_element(type, b, i);
  }
}

}  // namespace qwb
