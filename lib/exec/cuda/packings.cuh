// How the lanes of a warp read a packed weight for products of few rows. A warp takes 1024 columns
// of a row; a lane 32 of these, in pieces of kPiece consecutive ones that one load of 16 bytes (or
// a few of 4) brings. The codes become floats without a conversion: they are put into the mantissa
// of 2^23, from which 2^23 is taken away again, exactly.
#pragma once

#include "lib/exec/cuda/decode.h"

namespace qwb::cuda {

constexpr int kLaneColumns = 32;
constexpr int kWarpColumns = 32 * kLaneColumns;
constexpr uint32_t kMagic = 0x4b000000u;  // 2^23, whose last bit is worth 1

// Column of value `index` of a lane, from the warp's first one.
template <class P>
__device__ int lane_column(int lane, int index) {
  return index / P::kPiece * (32 * P::kPiece) + lane * P::kPiece + index % P::kPiece;
}

// What a lane holds of one row, as it lies in memory: words of codes, and for each piece its scale
// and zero point. Nothing is converted before it is used, so that nothing waits for a load. dot()
// gives the sum over one piece or, where there are no scales, over all of them.
template <class P>
struct LaneCodes {
  static constexpr int kPieces = kLaneColumns / P::kPiece;
  static constexpr int kSums = P::kScaled ? kPieces : 1;
  uint32_t words[P::kWords];
  uint32_t scales[kSums], zeros[kSums], zeros_above[kSums];
};

// The scales of a row, read and converted without a branch.
struct Scales {
  const unsigned char* data;
  int wide, half, shift;  // f32; f16; of the bits of a number of that width to those of an f32
  __device__ Scales(const PackedWeight& w, int64_t first) {
    wide = w.scale_number == Number::f32 ? 1 : 0, half = w.scale_number == Number::f16 ? 1 : 0;
    shift = wide != 0 ? 0 : 16;
    data = w.scales + (first << (1 + wide));
  }
  __device__ uint32_t bits(int index) const {
    const unsigned char* at = data + (static_cast<int64_t>(index) << (1 + wide));
    return wide != 0 ? __ldg(reinterpret_cast<const uint32_t*>(at))
                     : __ldg(reinterpret_cast<const unsigned short*>(at));
  }
  __device__ float value(uint32_t bits) const {
    const float narrow = from_f16(static_cast<uint16_t>(bits));
    return half != 0 ? narrow : __uint_as_float(bits << shift);
  }
};

// `count` words from `at`, which is aligned to 16 bytes where there are whole fours of them.
template <int Count>
__device__ void load_words(const unsigned char* at, uint32_t* words) {
  if constexpr (Count % 4 == 0) {
#pragma unroll
    for (int i = 0; i < Count / 4; ++i) {
      const uint4 four = __ldcs(reinterpret_cast<const uint4*>(at) + i);
      words[4 * i] = four.x, words[4 * i + 1] = four.y;
      words[4 * i + 2] = four.z, words[4 * i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < Count; ++i) words[i] = __ldcs(reinterpret_cast<const uint32_t*>(at) + i);
  }
}

// What the compiler must not see through: with 2^23 in a register a code and it are put together by
// one instruction; an immediate takes two. And a lane's entry of a table.
struct Opaque {
  uint32_t magic;
  float entry;
};

// Codes of 4 bits. Of a word's eight, five lie where the mantissa can take them, the others after a
// shift; a code at bit s counts 2^s times too much, which x makes good.
struct Grid4 {
  static constexpr int kPiece = 32, kWords = 4, kRows = 4;
  static constexpr bool kScaled = true;
  static __device__ int shift_of(int nibble) { return nibble < 5 ? 4 * nibble : 4 * (nibble - 5); }
  // x as dot() takes it.
  static __device__ void prepare(float (&x)[kLaneColumns]) {
#pragma unroll
    for (int i = 0; i < 32; ++i) x[i] *= 1.0f / static_cast<float>(1 << shift_of(i % 8));
  }
  static __device__ float dot(const uint32_t* words, const float (&x)[kLaneColumns], int,
                              const Opaque& opaque) {
    float sums[4] = {};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const uint32_t low = words[w], high = words[w] >> 20;
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const int shift = shift_of(n);
        const uint32_t bits = ((n < 5 ? low : high) & (15u << shift)) | opaque.magic;
        const float code = __uint_as_float(bits) - (8388608.0f + static_cast<float>(8 << shift));
        sums[w] = fmaf(code, x[8 * w + n], sums[w]);
      }
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
};

// Codes of 2, 3, 5, 6 and 7 bits.
template <int Bits>
struct BitStream {
  static constexpr int kPiece = 32, kWords = Bits, kRows = 4;
  static constexpr bool kScaled = true;
  static __device__ void prepare(float (&)[kLaneColumns]) {}
  static __device__ float dot(const uint32_t* words, const float (&x)[kLaneColumns], int,
                              const Opaque& opaque) {
    constexpr float kMiddle = 8388608.0f + static_cast<float>(1 << (Bits - 1));
    float sums[4] = {};
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const int word = i * Bits / 32, shift = i * Bits % 32;
      uint32_t code = words[word] >> shift;
      if (shift + Bits > 32)
        code = __funnelshift_r(words[word], words[word + 1 < Bits ? word + 1 : word], shift);
      const float value = __uint_as_float((code & ((1u << Bits) - 1)) | opaque.magic) - kMiddle;
      sums[i / 8] = fmaf(value, x[i], sums[i / 8]);
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
};

// Bytes: unsigned, or signed ones whose first bit is turned to make them that.
template <uint32_t Turned>
struct ByteCodes {
  static constexpr int kPiece = 16, kWords = 8, kRows = 2;
  static constexpr bool kScaled = true;
  static __device__ void prepare(float (&)[kLaneColumns]) {}
  static __device__ float dot(const uint32_t* words, const float (&x)[kLaneColumns], int piece,
                              const Opaque& opaque) {
    float sums[4] = {};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const uint32_t four = words[4 * piece + w] ^ Turned;
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        const float code = __uint_as_float(__byte_perm(four, kMagic, 0x7440 + b)) - 8388736.0f;
        sums[w] = fmaf(code, x[16 * piece + 4 * w + b], sums[w]);
      }
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
};
using Grid8 = ByteCodes<0>;
using Int8 = ByteCodes<0x80808080u>;

// 4-bit floats: lane l of a warp keeps entry l % 16 of the table, the others ask for it.
struct Table4 {
  static constexpr int kPiece = 32, kWords = 4, kRows = 4;
  static constexpr bool kScaled = true;
  static __device__ void prepare(float (&)[kLaneColumns]) {}
  static __device__ float dot(const uint32_t* words, const float (&x)[kLaneColumns], int,
                              const Opaque& opaque) {
    float sums[4] = {};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const float value =
            __shfl_sync(0xffffffffu, opaque.entry, static_cast<int>(words[w] >> (4 * n)), 16);
        sums[w] = fmaf(value, x[8 * w + (n ^ 1)], sums[w]);
      }
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
};

// Plain floats.
template <Number N>
struct Floats {
  static constexpr int kPiece = N == Number::f32 ? 4 : 8;
  static constexpr int kWords = N == Number::f32 ? 32 : 16, kRows = N == Number::f32 ? 1 : 2;
  static constexpr bool kScaled = false;
  static __device__ void prepare(float (&)[kLaneColumns]) {}
  static __device__ float dot(const uint32_t* words, const float (&x)[kLaneColumns], int,
                              const Opaque&) {
    float sums[4] = {};
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      float value;
      if (N == Number::f32) {
        value = __uint_as_float(words[i]);
      } else if (N == Number::bf16) {
        value = __uint_as_float(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xffff0000u);
      } else {
        value = from_f16(static_cast<uint16_t>(words[i / 2] >> (i % 2 * 16)));
      }
      sums[i % 4] = fmaf(value, x[i], sums[i % 4]);
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
};

}  // namespace qwb::cuda
