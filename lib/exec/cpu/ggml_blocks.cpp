#include "lib/exec/cpu/ggml_blocks.h"

#include <array>

#include "lib/base/half.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {
namespace {

const uint8_t* bytes_at(const std::byte* block, int64_t offset) {
  return reinterpret_cast<const uint8_t*>(block) + offset;
}

float half_at(const std::byte* block, int64_t offset) {
  return f16_to_f32(load<uint16_t>(block + offset));
}

// Blocks of 32: d, for some types m, for the 5-bit ones the high bits, then the nibbles: values
// 0..15 in the low ones, 16..31 in the high ones.

// The 32 codes of a 5-bit block.
std::array<int, 32> five_bits(uint32_t high, const uint8_t* qs) {
  std::array<int, 32> codes;
  for (size_t i = 0; i < 16; ++i) {
    codes[i] = (qs[i] & 15) | static_cast<int>((high >> i & 1u) << 4);
    codes[16 + i] = (qs[i] >> 4) | static_cast<int>((high >> (i + 16) & 1u) << 4);
  }
  return codes;
}

void q5_0(const std::byte* block, float* out) {
  const float d = half_at(block, 0);
  const auto codes = five_bits(load<uint32_t>(block + 2), bytes_at(block, 6));
  for (size_t i = 0; i < 32; ++i) out[i] = static_cast<float>(codes[i] - 16) * d;
}

void q5_1(const std::byte* block, float* out) {
  const float d = half_at(block, 0), m = half_at(block, 2);
  const auto codes = five_bits(load<uint32_t>(block + 4), bytes_at(block, 8));
  for (size_t i = 0; i < 32; ++i) out[i] = static_cast<float>(codes[i]) * d + m;
}

// K blocks of 256: two halves of 128, in each four runs of 32 that lie in different bits of the
// same bytes.
void q2_k(const std::byte* block, float* out) {
  const uint8_t *scales = bytes_at(block, 0), *qs = bytes_at(block, 16);
  const float d = half_at(block, 80), dmin = half_at(block, 82);
  for (int run = 0; run < 16; ++run, out += 16) {
    const float scale = d * static_cast<float>(scales[run] & 15),
                low = dmin * static_cast<float>(scales[run] >> 4);
    const uint8_t* q = qs + 32 * (run / 8) + 16 * (run % 2);
    const int shift = 2 * (run % 8 / 2);
    for (int i = 0; i < 16; ++i) out[i] = scale * static_cast<float>((q[i] >> shift) & 3) - low;
  }
}

void q3_k(const std::byte* block, float* out) {
  const uint8_t *mask = bytes_at(block, 0), *qs = bytes_at(block, 32),
                *scales = bytes_at(block, 96);
  const float d = half_at(block, 108);
  for (int run = 0; run < 16; ++run, out += 16) {
    const int low = run < 8 ? scales[run] & 15 : scales[run - 8] >> 4;
    const int code = low | ((scales[8 + run % 4] >> (2 * (run / 4))) & 3) << 4;
    const float scale = d * static_cast<float>(code - 32);
    const int half = run / 8, lane = run % 8 / 2, begin = 16 * (run % 2);
    const uint8_t *q = qs + 32 * half + begin, *h = mask + begin;
    const int bit = 4 * half + lane;
    for (int i = 0; i < 16; ++i) {
      const int value = ((q[i] >> (2 * lane)) & 3) + 4 * ((h[i] >> bit) & 1) - 4;
      out[i] = scale * static_cast<float>(value);
    }
  }
}

// Scale and minimum of sub-block `u` of Q4_K and Q5_K: six bits each, packed in twelve bytes.
void scale_and_min(const uint8_t* packed, int u, int& scale, int& minimum) {
  if (u < 4) {
    scale = packed[u] & 63;
    minimum = packed[u + 4] & 63;
    return;
  }
  scale = (packed[u + 4] & 15) | (packed[u - 4] >> 6) << 4;
  minimum = (packed[u + 4] >> 4) | (packed[u] >> 6) << 4;
}

// Q4_K and, with the fifth bits of the codes at `high`, Q5_K: eight sub-blocks of 32.
template <bool Five>
void affine_k(const std::byte* block, const uint8_t* high, const uint8_t* qs, float* out) {
  const float d = half_at(block, 0), dmin = half_at(block, 2);
  for (int u = 0; u < 8; ++u, out += 32) {
    int s = 0, m = 0;
    scale_and_min(bytes_at(block, 4), u, s, m);
    const float scale = d * static_cast<float>(s), low = dmin * static_cast<float>(m);
    const uint8_t* q = qs + 32 * (u / 2);
    const int shift = 4 * (u % 2);
    for (int i = 0; i < 32; ++i) {
      int code = (q[i] >> shift) & 15;
      if constexpr (Five) code |= ((high[i] >> u) & 1) << 4;
      out[i] = scale * static_cast<float>(code) - low;
    }
  }
}

void q4_k(const std::byte* block, float* out) {
  affine_k<false>(block, nullptr, bytes_at(block, 16), out);
}

void q5_k(const std::byte* block, float* out) {
  affine_k<true>(block, bytes_at(block, 16), bytes_at(block, 48), out);
}

void q6_k(const std::byte* block, float* out) {
  const uint8_t *low = bytes_at(block, 0), *high = bytes_at(block, 128);
  const float d = half_at(block, 208);
  for (int run = 0; run < 16; ++run, out += 16) {
    const float scale = d * static_cast<float>(load<int8_t>(block + 192 + run));
    const int half = run / 8, lane = run % 8 / 2, begin = 16 * (run % 2);
    const uint8_t *l = low + 64 * half + 32 * (lane & 1) + begin, *h = high + 32 * half + begin;
    const int shift = lane < 2 ? 0 : 4;
    for (int i = 0; i < 16; ++i) {
      const int code = ((l[i] >> shift) & 15) | ((h[i] >> (2 * lane)) & 3) << 4;
      out[i] = scale * static_cast<float>(code - 32);
    }
  }
}

// 16 bytes of nibbles: values 0..15 in the low ones, 16..31 in the high ones.
void from_table(const int8_t (&table)[16], const uint8_t* qs, float scale, float* out) {
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>(table[qs[i] & 15]);
    out[i + 16] = scale * static_cast<float>(table[qs[i] >> 4]);
  }
}

void iq4_nl(const std::byte* block, float* out) {
  from_table(kIq4Values, bytes_at(block, 2), half_at(block, 0), out);
}

void iq4_xs(const std::byte* block, float* out) {
  const float d = half_at(block, 0);
  const auto high = load<uint16_t>(block + 2);
  const uint8_t *low = bytes_at(block, 4), *qs = bytes_at(block, 8);
  for (int run = 0; run < 8; ++run) {
    const int code = ((low[run / 2] >> (4 * (run % 2))) & 15) | ((high >> (2 * run)) & 3) << 4;
    from_table(kIq4Values, qs + 16 * run, d * static_cast<float>(code - 32), out + 32 * run);
  }
}

void mxfp4(const std::byte* block, float* out) {
  from_table(kMxfp4Values, bytes_at(block, 1), ggml_mxfp4_scale(load<uint8_t>(block)), out);
}

template <void (*Block)(const std::byte*, float*)>
void each(const GgmlTypeInfo& info, const std::byte* blocks, int64_t count, float* out) {
  for (int64_t done = 0; done < count; done += info.block, blocks += info.bytes)
    Block(blocks, out + done);
}

}  // namespace

void dequantize_ggml(GgmlType type, const std::byte* blocks, int64_t count, float* out) {
  const GgmlTypeInfo& info = ggml_info(type);
  switch (type) {
    case GgmlType::f32:
      std::memcpy(out, blocks, static_cast<size_t>(count) * sizeof(float));
      return;
    case GgmlType::f16:
      return simd::from_f16(blocks, count, 1.0f, out);
    case GgmlType::bf16:
      return simd::from_bf16(blocks, count, out);
    case GgmlType::q4_0:
      return simd::from_q4_0(blocks, count, out);
    case GgmlType::q4_1:
      return simd::from_q4_1(blocks, count, out);
    case GgmlType::q5_0:
      return each<q5_0>(info, blocks, count, out);
    case GgmlType::q5_1:
      return each<q5_1>(info, blocks, count, out);
    case GgmlType::q8_0:
      return simd::from_q8_0(blocks, count, out);
    case GgmlType::q2_k:
      return each<q2_k>(info, blocks, count, out);
    case GgmlType::q3_k:
      return each<q3_k>(info, blocks, count, out);
    case GgmlType::q4_k:
      return each<q4_k>(info, blocks, count, out);
    case GgmlType::q5_k:
      return each<q5_k>(info, blocks, count, out);
    case GgmlType::q6_k:
      return each<q6_k>(info, blocks, count, out);
    case GgmlType::iq4_nl:
      return each<iq4_nl>(info, blocks, count, out);
    case GgmlType::iq4_xs:
      return each<iq4_xs>(info, blocks, count, out);
    case GgmlType::mxfp4:
      return each<mxfp4>(info, blocks, count, out);
  }
}

}  // namespace qwb
