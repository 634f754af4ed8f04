// Conversions between stored types and codes and f32; see simd.h.
#include "lib/base/half.h"
#include "lib/exec/cpu/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/exec/cpu/simd_codes.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set

#include <hwy/highway.h>

#include "lib/exec/cpu/nibble_table-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;

HWY_INLINE size_t lanes() {
  return hn::Lanes(F());
}

void FromF16(const std::byte* in, int64_t count, float factor, float* out) {
  const F d;
  const V f = hn::Set(d, factor);
  const hn::Rebind<hwy::float16_t, F> d16;
  const hn::Rebind<uint16_t, F> du16;
  const auto n = static_cast<int64_t>(lanes());
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const auto bits = hn::LoadU(du16, reinterpret_cast<const uint16_t*>(in + 2 * i));
    hn::StoreU(hn::Mul(hn::PromoteTo(d, hn::BitCast(d16, bits)), f), d, out + i);
  }
  for (; i < count; ++i) out[i] = f16_to_f32(load<uint16_t>(in + 2 * i)) * factor;
}

void FromBf16(const std::byte* in, int64_t count, float* out) {
  const F d;
  const hn::RebindToUnsigned<F> du;
  const hn::Rebind<uint16_t, F> du16;
  const auto n = static_cast<int64_t>(lanes());
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const auto bits =
        hn::PromoteTo(du, hn::LoadU(du16, reinterpret_cast<const uint16_t*>(in + 2 * i)));
    hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(bits)), d, out + i);
  }
  for (; i < count; ++i) out[i] = bf16_to_f32(load<uint16_t>(in + 2 * i));
}

// The last codes of a row, which a whole word would read beyond.
HWY_INLINE void UnpackTail(const std::byte* packed, int64_t bytes, int64_t count, int bits,
                           float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t bit = i * bits;
    uint32_t word = static_cast<uint32_t>(packed[bit / 8]);
    if (bit / 8 + 1 < bytes) word |= static_cast<uint32_t>(packed[bit / 8 + 1]) << 8;
    out[i] = static_cast<float>((word >> (bit % 8)) & ((1u << bits) - 1));
  }
}

void ToF16(const float* in, int64_t count, float factor, std::byte* out) {
  int64_t i = 0;
#if !HWY_ARCH_X86 || \
    HWY_TARGET <=    \
        HWY_AVX2  // below AVX2 (no F16C) Highway's emulation does not round to nearest even
  const F d;
  const hn::Rebind<hwy::float16_t, F> d16;
  const hn::Rebind<uint16_t, F> du16;
  const auto n = static_cast<int64_t>(lanes());
  const V f = hn::Set(d, factor);
  for (; i + n <= count; i += n) {
    const auto halves = hn::DemoteTo(d16, hn::Mul(hn::LoadU(d, in + i), f));
    hn::StoreU(hn::BitCast(du16, halves), du16, reinterpret_cast<uint16_t*>(out + 2 * i));
  }
#endif
  for (; i < count; ++i) store<uint16_t>(out + 2 * i, f32_to_f16(in[i] * factor));
}

void ToBf16(const float* in, int64_t count, std::byte* out) {
  const hn::ScalableTag<uint32_t> d32;
  const hn::Rebind<uint16_t, decltype(d32)> d16;
  const auto n = static_cast<int64_t>(hn::Lanes(d32));
  const auto half = hn::Set(d32, 0x7fffu), one = hn::Set(d32, 1u);
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const auto bits = hn::LoadU(d32, reinterpret_cast<const uint32_t*>(in + i));
    const auto odd = hn::And(hn::ShiftRight<16>(bits), one);
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(half, odd)));
    hn::StoreU(hn::TruncateTo(d16, rounded), d16, reinterpret_cast<uint16_t*>(out + 2 * i));
  }
  for (; i < count; ++i) store<uint16_t>(out + 2 * i, f32_to_bf16(in[i]));
}

void Unpack(const std::byte* packed, int64_t count, int bits, float* out) {
  const hn::CappedTag<float, 8> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN uint32_t words[8];
  HWY_ALIGN uint32_t shifts[8];
  for (int lane = 0; lane < 8; ++lane) shifts[lane] = static_cast<uint32_t>(lane % 4 * bits);
  const auto mask = hn::Set(du, (1u << bits) - 1);
  const int64_t bytes = (count * bits + 7) / 8;
  if (bits <= 4 && n == 8) {  // eight codes lie in one 32-bit word
    for (int lane = 0; lane < 8; ++lane) shifts[lane] = static_cast<uint32_t>(lane * bits);
    const auto shift = hn::Load(du, shifts);
    int64_t i = 0, at = 0;
    for (; at + 4 <= bytes && i + 8 <= count; i += 8, at += bits) {
      const auto codes = hn::And(hn::Shr(hn::Set(du, load<uint32_t>(packed + at)), shift), mask);
      hn::StoreU(hn::ConvertTo(d, hn::BitCast(hn::RebindToSigned<decltype(d)>(), codes)), d,
                 out + i);
    }
    if (i < count) UnpackTail(packed + at, bytes - at, count - i, bits, out + i);
    return;
  }
  int64_t i = 0, at = 0;
  for (; at + 8 <= bytes && i + 8 <= count; i += 8, at += bits) {  // eight codes take `bits` bytes
    const auto stream = load<uint64_t>(packed + at);
    const auto low = static_cast<uint32_t>(stream),
               high = static_cast<uint32_t>(stream >> (4 * bits));
    for (int lane = 0; lane < 4; ++lane) {
      words[lane] = low;
      words[4 + lane] = high;
    }
    for (int64_t lane = 0; lane < 8; lane += n) {
      const auto codes =
          hn::And(hn::Shr(hn::Load(du, words + lane), hn::Load(du, shifts + lane)), mask);
      hn::StoreU(hn::ConvertTo(d, hn::BitCast(hn::RebindToSigned<decltype(d)>(), codes)), d,
                 out + i + lane);
    }
  }
  if (i < count) UnpackTail(packed + at, bytes - at, count - i, bits, out + i);
}

void DequantizeGroup(float* x, int64_t count, float zero, float scale) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  const V z = hn::Set(d, zero), s = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + n <= count; i += n) hn::StoreU(hn::Mul(hn::Sub(hn::LoadU(d, x + i), z), s), d, x + i);
  for (; i < count; ++i) x[i] = (x[i] - zero) * scale;
}

void FromInt8(const std::byte* in, int64_t count, float scale, float factor, float* out) {
  const F d;
  const hn::Rebind<int8_t, F> d8;
  const hn::RebindToSigned<F> di;
  const auto n = static_cast<int64_t>(lanes());
  const V s = hn::Set(d, scale), f = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const auto codes = hn::PromoteTo(di, hn::LoadU(d8, reinterpret_cast<const int8_t*>(in + i)));
    hn::StoreU(hn::Mul(hn::Mul(hn::ConvertTo(d, codes), s), f), d, out + i);
  }
  for (; i < count; ++i) out[i] = static_cast<float>(static_cast<int8_t>(in[i])) * scale * factor;
}

void FromNibbles(const std::byte* packed, int64_t count, const float* table, float scale,
                 float* out) {
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<float, 8> d;
  if (hn::Lanes(d) == 8) {
    const auto low = hn::Mul(hn::LoadU(d, table), hn::Set(d, scale));
    const auto high = hn::Mul(hn::LoadU(d, table + 8), hn::Set(d, scale));
    for (; i + 8 <= count; i += 8)
      hn::StoreU(LookUpNibbles(d, low, high, load<uint32_t>(packed + i / 2)), d, out + i);
  }
#endif
  for (; i < count; ++i) {
    const auto pair = static_cast<uint32_t>(packed[i / 2]);
    out[i] = table[i % 2 == 0 ? pair >> 4 : pair & 15u] * scale;
  }
}

// The 32 codes of 16 bytes, as floats; `finish` makes values of them.
template <class Finish>
HWY_INLINE void NibbleBlock(const std::byte* bytes, Finish finish, float* out) {
  const hn::CappedTag<float, 16> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  for (size_t i = 0; i < 16; i += hn::Lanes(d)) {
    const auto pair = hn::PromoteTo(di, hn::LoadU(d8, reinterpret_cast<const uint8_t*>(bytes) + i));
    hn::StoreU(finish(d, hn::ConvertTo(d, hn::And(pair, hn::Set(di, 15)))), d, out + i);
    hn::StoreU(finish(d, hn::ConvertTo(d, hn::ShiftRight<4>(pair))), d, out + 16 + i);
  }
}

void FromQ40(const std::byte* blocks, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 32, blocks += 18) {
    const float scale = f16_to_f32(load<uint16_t>(blocks));
    NibbleBlock(
        blocks + 2,
        [scale](auto d, auto code) {
          return hn::Mul(hn::Sub(code, hn::Set(d, 8.0f)), hn::Set(d, scale));
        },
        out + i);
  }
}

void FromQ41(const std::byte* blocks, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 32, blocks += 20) {
    const float scale = f16_to_f32(load<uint16_t>(blocks)),
                low = f16_to_f32(load<uint16_t>(blocks + 2));
    NibbleBlock(
        blocks + 4,
        [scale, low](auto d, auto code) {
          return hn::Add(hn::Mul(code, hn::Set(d, scale)), hn::Set(d, low));
        },
        out + i);
  }
}

void FromQ80(const std::byte* blocks, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 32, blocks += 34)
    FromInt8(blocks + 2, 32, f16_to_f32(load<uint16_t>(blocks)), 1.0f, out + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qwb::simd {

HWY_EXPORT(FromF16);
HWY_EXPORT(FromBf16);
HWY_EXPORT(ToF16);
HWY_EXPORT(ToBf16);
HWY_EXPORT(Unpack);
HWY_EXPORT(DequantizeGroup);
HWY_EXPORT(FromInt8);
HWY_EXPORT(FromNibbles);
HWY_EXPORT(FromQ40);
HWY_EXPORT(FromQ41);
HWY_EXPORT(FromQ80);

void from_f16(const std::byte* in, int64_t count, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(FromF16)(in, count, factor, out);
}
void from_bf16(const std::byte* in, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(FromBf16)(in, count, out);
}
void to_f16(const float* in, int64_t count, float factor, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(ToF16)(in, count, factor, out);
}
void to_bf16(const float* in, int64_t count, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(ToBf16)(in, count, out);
}
void unpack(const std::byte* packed, int64_t count, int bits, float* out) {
  HWY_DYNAMIC_DISPATCH(Unpack)(packed, count, bits, out);
}
void dequantize_group(float* x, int64_t count, float zero, float scale) {
  HWY_DYNAMIC_DISPATCH(DequantizeGroup)(x, count, zero, scale);
}
void from_int8(const std::byte* in, int64_t count, float scale, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(FromInt8)(in, count, scale, factor, out);
}
void from_nibbles(const std::byte* packed, int64_t count, const std::array<float, 16>& table,
                  float scale, float* out) {
  HWY_DYNAMIC_DISPATCH(FromNibbles)(packed, count, table.data(), scale, out);
}
void from_q4_0(const std::byte* blocks, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(FromQ40)(blocks, count, out);
}
void from_q4_1(const std::byte* blocks, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(FromQ41)(blocks, count, out);
}
void from_q8_0(const std::byte* blocks, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(FromQ80)(blocks, count, out);
}

}  // namespace qwb::simd
#endif
