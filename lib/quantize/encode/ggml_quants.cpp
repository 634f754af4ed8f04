// The blocks of 32, and the choice of the type.
#include "lib/quantize/encode/ggml_quants.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "lib/base/half.h"
#include "lib/quantize/encode/ggml_k_quants.h"
#include "lib/quantize/encode/ggml_table_quants.h"

namespace qwb {
namespace {

constexpr int kExtremeLanes = 8;  // partial maxima, so that the compiler can use vectors

struct Range {
  float low, high;
};

Range range_of(const float* x) {
  float low[kExtremeLanes], high[kExtremeLanes];
  for (int l = 0; l < kExtremeLanes; ++l) low[l] = high[l] = x[l];
  for (int i = kExtremeLanes; i < 32; i += kExtremeLanes) {
    for (int l = 0; l < kExtremeLanes; ++l) {
      const float v = x[i + l];
      low[l] = v < low[l] ? v : low[l];
      high[l] = v > high[l] ? v : high[l];
    }
  }
  return {*std::min_element(low, low + kExtremeLanes),
          *std::max_element(high, high + kExtremeLanes)};
}

// The value of largest magnitude with its sign; of two equal ones the first.
float signed_extreme(const float* x) {
  const Range range = range_of(x);
  if (range.high > -range.low) return range.high;
  if (range.high < -range.low) return range.low;
  for (int i = 0; i < 32; ++i) {
    if (std::fabs(x[i]) == range.high) return x[i];
  }
  return 0;
}

void put_half(std::byte* at, float value) {
  const uint16_t half = f32_to_f16(value);
  if ((half & 0x7c00u) == 0x7c00u)
    throw Error(ErrorKind::failed, "a scale of " + std::to_string(value) + " overflows f16", {},
                "keep this tensor in F16 or F32");
  store(at, half);
}

float inverse(float d) {
  return d != 0 ? 1.0f / d : 0.0f;
}

// Codes trunc(x * factor + offset), at most `most`.
void truncate_codes(const float* x, float shift, float factor, float offset, int most, int* codes) {
  for (int i = 0; i < 32; ++i) {
    const int code = static_cast<int>((x[i] - shift) * factor + offset);
    codes[i] = code < most ? code : most;
  }
}

void put_nibbles(const int* codes, std::byte* at) {
  for (int i = 0; i < 16; ++i)
    at[i] = static_cast<std::byte>((codes[i] & 15) | (codes[i + 16] & 15) << 4);
}

void put_high_bits(const int* codes, std::byte* at) {
  uint32_t high = 0;
  for (int i = 0; i < 32; ++i) high |= static_cast<uint32_t>(codes[i] >> 4 & 1) << i;
  store(at, high);
}

void to_q8_0(const float* x, std::byte* block) {
  const Range range = range_of(x);
  const float d = std::max(range.high, -range.low) / 127.0f, factor = inverse(d);
  put_half(block, d);
  for (int i = 0; i < 32; ++i) {
    // Half away from zero: what is cut off is exact.
    const float scaled = x[i] * factor;
    const int whole = static_cast<int>(scaled);
    const float rest = scaled - static_cast<float>(whole);
    block[2 + i] = static_cast<std::byte>(whole + (rest >= 0.5f ? 1 : 0) - (rest <= -0.5f ? 1 : 0));
  }
}

void to_q4_0(const float* x, std::byte* block) {
  const float d = signed_extreme(x) / -8.0f;
  int codes[32];
  truncate_codes(x, 0.0f, inverse(d), 8.5f, 15, codes);
  put_half(block, d);
  put_nibbles(codes, block + 2);
}

void to_q4_1(const float* x, std::byte* block) {
  const Range range = range_of(x);
  const float d = (range.high - range.low) / 15.0f;
  int codes[32];
  truncate_codes(x, range.low, inverse(d), 0.5f, 15, codes);
  put_half(block, d);
  put_half(block + 2, range.low);
  put_nibbles(codes, block + 4);
}

void to_q5_0(const float* x, std::byte* block) {
  const float d = signed_extreme(x) / -16.0f;
  int codes[32];
  truncate_codes(x, 0.0f, inverse(d), 16.5f, 31, codes);
  put_half(block, d);
  put_high_bits(codes, block + 2);
  put_nibbles(codes, block + 6);
}

void to_q5_1(const float* x, std::byte* block) {
  const Range range = range_of(x);
  const float d = (range.high - range.low) / 31.0f;
  int codes[32];
  truncate_codes(x, range.low, inverse(d), 0.5f, 31, codes);
  put_half(block, d);
  put_half(block + 2, range.low);
  put_high_bits(codes, block + 4);
  put_nibbles(codes, block + 8);
}

template <void (*Block)(const float*, std::byte*)>
void each_block(const GgmlTypeInfo& info, const float* values, int64_t count, std::byte* blocks) {
  for (int64_t done = 0; done < count; done += info.block, blocks += info.bytes)
    Block(values + done, blocks);
}

template <typename Narrow>
void narrowed(const float* values, int64_t count, uint16_t infinity, Narrow narrow,
              std::byte* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = narrow(values[i]);
    if ((bits & 0x7fffu) == infinity && std::isfinite(values[i])) {
      throw Error(ErrorKind::failed,
                  "the value " + std::to_string(values[i]) + " does not fit " +
                      (infinity == 0x7c00 ? "F16" : "BF16"),
                  {}, "keep this tensor in BF16 or F32");
    }
    store<uint16_t>(out + 2 * i, bits);
  }
}

}  // namespace

void quantize_ggml(GgmlType type, const float* values, int64_t count, std::byte* blocks) {
  const GgmlTypeInfo& info = ggml_info(type);
  switch (type) {
    case GgmlType::f32:
      std::memcpy(blocks, values, static_cast<size_t>(count) * sizeof(float));
      return;
    case GgmlType::f16:
      return narrowed(values, count, 0x7c00, f32_to_f16, blocks);
    case GgmlType::bf16:
      return narrowed(values, count, 0x7f80, f32_to_bf16, blocks);
    case GgmlType::q4_0:
      return each_block<to_q4_0>(info, values, count, blocks);
    case GgmlType::q4_1:
      return each_block<to_q4_1>(info, values, count, blocks);
    case GgmlType::q5_0:
      return each_block<to_q5_0>(info, values, count, blocks);
    case GgmlType::q5_1:
      return each_block<to_q5_1>(info, values, count, blocks);
    case GgmlType::q8_0:
      return each_block<to_q8_0>(info, values, count, blocks);
    case GgmlType::q2_k:
      return each_block<to_q2_k>(info, values, count, blocks);
    case GgmlType::q3_k:
      return each_block<to_q3_k>(info, values, count, blocks);
    case GgmlType::q4_k:
      return each_block<to_q4_k>(info, values, count, blocks);
    case GgmlType::q5_k:
      return each_block<to_q5_k>(info, values, count, blocks);
    case GgmlType::q6_k:
      return each_block<to_q6_k>(info, values, count, blocks);
    case GgmlType::iq4_nl:
      return each_block<to_iq4_nl>(info, values, count, blocks);
    case GgmlType::iq4_xs:
      return each_block<to_iq4_xs>(info, values, count, blocks);
    case GgmlType::mxfp4:
      return each_block<to_mxfp4>(info, values, count, blocks);
  }
}

}  // namespace qwb
