#include "lib/exec/cpu/int8_simd.h"

#include <bit>

// Vectors whose size is unknown to the compiler cannot be members of a struct; such machines also
// have NEON or the plain target.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/exec/cpu/int8_simd.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// At most as many lanes as the padding.
using F = hn::CappedTag<float, 64>;
using I16 = hn::CappedTag<int16_t, 64>;
using I32 = hn::RepartitionToWide<I16>;

void RoundToF16(float* x, int64_t padded) {
  const F d;
  const hn::RebindToUnsigned<F> du;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  const auto half = hn::Set(d, 0.5f);
  for (int64_t i = 0; i < padded; i += n) {
    const auto bits = hn::BitCast(du, hn::LoadU(d, x + i));
    const auto magnitude = hn::And(bits, hn::Set(du, 0x7fffffffu));
    const auto value = hn::BitCast(d, magnitude);
    const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1u));
    const auto up = hn::Add(magnitude, hn::Add(hn::Set(du, 0xfffu), odd));
    const auto normal = hn::BitCast(d, hn::And(up, hn::Set(du, 0xffffe000u)));
    // Below 2^-14 f16 has multiples of 2^-24: the last bit of floats from 0.5 to 1.
    const auto small = hn::Sub(hn::Add(value, half), half);
    const auto rounded = hn::IfThenElse(hn::Lt(value, hn::Set(d, 0x1p-14f)), small, normal);
    const auto kept = hn::IfThenElse(hn::Lt(value, hn::Set(d, 65520.0f)), rounded, value);
    const auto sign = hn::And(bits, hn::Set(du, 0x80000000u));
    hn::StoreU(hn::BitCast(d, hn::Or(hn::BitCast(du, kept), sign)), d, x + i);
  }
}

float Int8Absmax(const float* x, int64_t padded, float threshold, int32_t* marks) {
  const F d;
  const hn::RebindToSigned<F> di;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  const auto limit = hn::Set(d, threshold);
  // Magnitudes are ordered like their bits, NaN above infinity.
  auto largest = hn::Zero(di);
  for (int64_t i = 0; i < padded; i += n) {
    auto magnitude = hn::Abs(hn::LoadU(d, x + i));
    if (threshold > 0) {
      const auto outlier = hn::Ge(magnitude, limit);
      magnitude = hn::IfThenZeroElse(outlier, magnitude);
      const auto mark = hn::BitCast(di, hn::VecFromMask(d, outlier));
      hn::StoreU(hn::Or(hn::LoadU(di, marks + i), mark), di, marks + i);
    }
    largest = hn::Max(largest, hn::BitCast(di, magnitude));
  }
  return std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(di, largest)));
}

void Int8Codes(const float* x, int64_t padded, float factor, int16_t* codes) {
  const F d;
  const hn::Rebind<int16_t, F> d16;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  const auto f = hn::Set(d, factor), top = hn::Set(d, 127.0f), bottom = hn::Set(d, -127.0f);
  for (int64_t i = 0; i < padded; i += n) {
    const auto scaled = hn::Min(hn::Max(hn::Mul(hn::LoadU(d, x + i), f), bottom), top);
    hn::StoreU(hn::DemoteTo(d16, hn::NearestInt(scaled)), d16, codes + i);
  }
}

void WidenInt8(const int8_t* in, int64_t count, int64_t padded, int16_t* out) {
  const I16 d;
  const hn::Rebind<int8_t, I16> d8;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + n <= count; i += n) hn::StoreU(hn::PromoteTo(d, hn::LoadU(d8, in + i)), d, out + i);
  for (; i < count; ++i) out[i] = int16_t{in[i]};
  for (; i < padded; ++i) out[i] = 0;
}

// A sum in two vectors, as some instruction sets want it; x86 leaves the second one alone.
struct Sum {
  hn::Vec<I32> low, high;
};
HWY_INLINE Sum zero_sum() {
  return {hn::Zero(I32()), hn::Zero(I32())};
}
HWY_INLINE void accumulate(hn::Vec<I16> a, hn::Vec<I16> b, Sum& sum) {
  sum.low = hn::ReorderWidenMulAccumulate(I32(), a, b, sum.low, sum.high);
}
HWY_INLINE int32_t total(const Sum& sum) {
  return hn::GetLane(hn::SumOfLanes(I32(), hn::Add(sum.low, sum.high)));
}

// Twelve sums, three vectors of a and one of b fill the sixteen registers of AVX2.
void Int8Tile(const int16_t* a, int64_t stride_a, const int16_t* b, int64_t stride_b,
              int64_t padded, int32_t* sums, int64_t stride_sums) {
  const I16 d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  Sum s00 = zero_sum(), s01 = zero_sum(), s02 = zero_sum(), s03 = zero_sum();
  Sum s10 = zero_sum(), s11 = zero_sum(), s12 = zero_sum(), s13 = zero_sum();
  Sum s20 = zero_sum(), s21 = zero_sum(), s22 = zero_sum(), s23 = zero_sum();
  for (int64_t i = 0; i < padded; i += n) {
    const auto a0 = hn::LoadU(d, a + i), a1 = hn::LoadU(d, a + stride_a + i),
               a2 = hn::LoadU(d, a + 2 * stride_a + i);
    auto row = hn::LoadU(d, b + i);
    accumulate(a0, row, s00);
    accumulate(a1, row, s10);
    accumulate(a2, row, s20);
    row = hn::LoadU(d, b + stride_b + i);
    accumulate(a0, row, s01);
    accumulate(a1, row, s11);
    accumulate(a2, row, s21);
    row = hn::LoadU(d, b + 2 * stride_b + i);
    accumulate(a0, row, s02);
    accumulate(a1, row, s12);
    accumulate(a2, row, s22);
    row = hn::LoadU(d, b + 3 * stride_b + i);
    accumulate(a0, row, s03);
    accumulate(a1, row, s13);
    accumulate(a2, row, s23);
  }
  const auto put = [](int32_t* to, const Sum& s0, const Sum& s1, const Sum& s2, const Sum& s3)
                       HWY_ATTR {
                         to[0] += total(s0);
                         to[1] += total(s1);
                         to[2] += total(s2);
                         to[3] += total(s3);
                       };
  put(sums, s00, s01, s02, s03);
  put(sums + stride_sums, s10, s11, s12, s13);
  put(sums + 2 * stride_sums, s20, s21, s22, s23);
}

void Int8Row(const int16_t* a, const int16_t* b, int64_t stride_b, int64_t padded, int32_t* sums) {
  const I16 d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  Sum s0 = zero_sum(), s1 = zero_sum(), s2 = zero_sum(), s3 = zero_sum();
  for (int64_t i = 0; i < padded; i += n) {
    const auto x = hn::LoadU(d, a + i);
    accumulate(x, hn::LoadU(d, b + i), s0);
    accumulate(x, hn::LoadU(d, b + stride_b + i), s1);
    accumulate(x, hn::LoadU(d, b + 2 * stride_b + i), s2);
    accumulate(x, hn::LoadU(d, b + 3 * stride_b + i), s3);
  }
  sums[0] += total(s0);
  sums[1] += total(s1);
  sums[2] += total(s2);
  sums[3] += total(s3);
}

void Int8RowInPlace(const int16_t* a, const int8_t* const* b, int64_t count, int32_t* sums) {
  const I16 d;
  const hn::Rebind<int8_t, I16> d8;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  Sum s0 = zero_sum(), s1 = zero_sum(), s2 = zero_sum(), s3 = zero_sum();
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const auto x = hn::LoadU(d, a + i);
    accumulate(x, hn::PromoteTo(d, hn::LoadU(d8, b[0] + i)), s0);
    accumulate(x, hn::PromoteTo(d, hn::LoadU(d8, b[1] + i)), s1);
    accumulate(x, hn::PromoteTo(d, hn::LoadU(d8, b[2] + i)), s2);
    accumulate(x, hn::PromoteTo(d, hn::LoadU(d8, b[3] + i)), s3);
  }
  sums[0] += total(s0);
  sums[1] += total(s1);
  sums[2] += total(s2);
  sums[3] += total(s3);
  for (; i < count; ++i) {
    for (int r = 0; r < 4; ++r) sums[r] += static_cast<int32_t>(a[i]) * b[r][i];
  }
}

void Int8Outliers(const float* x, int64_t count, const float* w, float* out) {
  const hn::CappedTag<float, kInt8Panel / 4> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = 0; j < kInt8Panel; j += 4 * n) {
    auto s0 = hn::LoadU(d, out + j), s1 = hn::LoadU(d, out + j + n);
    auto s2 = hn::LoadU(d, out + j + 2 * n), s3 = hn::LoadU(d, out + j + 3 * n);
    const float* column = w + j;
    for (int64_t c = 0; c < count; ++c, column += kInt8Panel) {
      const auto value = hn::Set(d, x[c]);
      // No fused multiply-add: older instruction sets have none, and the bits shall be the same.
      s0 = hn::Add(s0, hn::Mul(value, hn::LoadU(d, column)));
      s1 = hn::Add(s1, hn::Mul(value, hn::LoadU(d, column + n)));
      s2 = hn::Add(s2, hn::Mul(value, hn::LoadU(d, column + 2 * n)));
      s3 = hn::Add(s3, hn::Mul(value, hn::LoadU(d, column + 3 * n)));
    }
    hn::StoreU(s0, d, out + j);
    hn::StoreU(s1, d, out + j + n);
    hn::StoreU(s2, d, out + j + 2 * n);
    hn::StoreU(s3, d, out + j + 3 * n);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qwb::simd {

HWY_EXPORT(RoundToF16);
HWY_EXPORT(Int8Absmax);
HWY_EXPORT(Int8Codes);
HWY_EXPORT(WidenInt8);
HWY_EXPORT(Int8Tile);
HWY_EXPORT(Int8Row);
HWY_EXPORT(Int8RowInPlace);
HWY_EXPORT(Int8Outliers);

void round_to_f16(float* x, int64_t padded) {
  HWY_DYNAMIC_DISPATCH(RoundToF16)(x, padded);
}
float int8_absmax(const float* x, int64_t padded, float threshold, int32_t* marks) {
  return HWY_DYNAMIC_DISPATCH(Int8Absmax)(x, padded, threshold, marks);
}
void int8_codes(const float* x, int64_t padded, float factor, int16_t* codes) {
  HWY_DYNAMIC_DISPATCH(Int8Codes)(x, padded, factor, codes);
}
void widen_int8(const int8_t* in, int64_t count, int64_t padded, int16_t* out) {
  HWY_DYNAMIC_DISPATCH(WidenInt8)(in, count, padded, out);
}
void int8_tile(const int16_t* a, int64_t stride_a, const int16_t* b, int64_t stride_b,
               int64_t padded, int32_t* sums, int64_t stride_sums) {
  HWY_DYNAMIC_DISPATCH(Int8Tile)(a, stride_a, b, stride_b, padded, sums, stride_sums);
}
void int8_row(const int16_t* a, const int16_t* b, int64_t stride_b, int64_t padded, int32_t* sums) {
  HWY_DYNAMIC_DISPATCH(Int8Row)(a, b, stride_b, padded, sums);
}
void int8_row_in_place(const int16_t* a, const int8_t* const b[4], int64_t count, int32_t* sums) {
  HWY_DYNAMIC_DISPATCH(Int8RowInPlace)(a, b, count, sums);
}
void int8_outliers(const float* x, int64_t count, const float* w, float* out) {
  HWY_DYNAMIC_DISPATCH(Int8Outliers)(x, count, w, out);
}

}  // namespace qwb::simd
#endif  // HWY_ONCE
