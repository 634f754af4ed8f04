#include "lib/kernels/simd.h"

#include <cmath>
#include <limits>

#include "lib/base/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/kernels/simd.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;

HWY_INLINE size_t lanes() {
  return hn::Lanes(F());
}

HWY_INLINE V sigmoid(V x) {
  const F d;
  // Highway's Exp is not defined beyond 88.7; sigmoid(-88) is 6e-39 already.
  const V exponent = hn::Min(hn::Neg(x), hn::Set(d, 88.0f));
  return hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), hn::Exp(d, exponent)));
}

HWY_INLINE V gelu_tanh(V x) {
  const F d;
  // 0.5 (1 + tanh(u)) = sigmoid(2u)
  const V inner = hn::Mul(x, hn::MulAdd(hn::Mul(x, x), hn::Set(d, 2.0f * 0.7978845608028654f * 0.044715f),
                                        hn::Set(d, 2.0f * 0.7978845608028654f)));
  return hn::Mul(x, sigmoid(inner));
}

float Dot(const float* x, const float* y, int64_t count) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  V a = hn::Zero(d), b = hn::Zero(d), c = hn::Zero(d), e = hn::Zero(d);
  int64_t i = 0;
  for (; i + 4 * n <= count; i += 4 * n) {
    a = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), a);
    b = hn::MulAdd(hn::LoadU(d, x + i + n), hn::LoadU(d, y + i + n), b);
    c = hn::MulAdd(hn::LoadU(d, x + i + 2 * n), hn::LoadU(d, y + i + 2 * n), c);
    e = hn::MulAdd(hn::LoadU(d, x + i + 3 * n), hn::LoadU(d, y + i + 3 * n), e);
  }
  for (; i + n <= count; i += n) a = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), a);
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
  for (; i < count; ++i) sum += x[i] * y[i];
  return sum;
}

void Axpy(float factor, const float* x, float* y, int64_t count) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  const V a = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + n <= count; i += n)
    hn::StoreU(hn::MulAdd(a, hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  for (; i < count; ++i) y[i] += factor * x[i];
}

void Add(float* x, const float* y, int64_t count) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  int64_t i = 0;
  for (; i + n <= count; i += n) hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, x + i);
  for (; i < count; ++i) x[i] += y[i];
}

bool AllFinite(const float* x, int64_t count) {
  const F d;
  const hn::RebindToUnsigned<F> du;
  const auto n = static_cast<int64_t>(lanes());
  // A value is not finite exactly when all exponent bits are set: the largest magnitude tells.
  auto largest = hn::Zero(du);
  const auto magnitude = hn::Set(du, 0x7fffffffu);
  int64_t i = 0;
  for (; i + n <= count; i += n)
    largest = hn::Max(largest, hn::And(hn::BitCast(du, hn::LoadU(d, x + i)), magnitude));
  bool finite = hn::AllTrue(du, hn::Lt(largest, hn::Set(du, 0x7f800000u)));
  for (; i < count; ++i) finite = finite && std::isfinite(x[i]);
  return finite;
}

void RmsNorm(const float* x, int64_t count, const float* gain, float eps, float* y) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  const float mean = Dot(x, x, count) / static_cast<float>(count);
  const float factor = 1.0f / std::sqrt(mean + eps);
  const V f = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + n <= count; i += n)
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), f), hn::LoadU(d, gain + i)), d, y + i);
  for (; i < count; ++i) y[i] = x[i] * factor * gain[i];
}

void LayerNorm(const float* x, int64_t count, const float* gain, const float* bias, float eps, float* y) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  V sums = hn::Zero(d);
  int64_t i = 0;
  for (; i + n <= count; i += n) sums = hn::Add(sums, hn::LoadU(d, x + i));
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (; i < count; ++i) sum += x[i];
  const float mean = sum / static_cast<float>(count);
  const V m = hn::Set(d, mean);
  V squares = hn::Zero(d);
  for (i = 0; i + n <= count; i += n) {
    const V centred = hn::Sub(hn::LoadU(d, x + i), m);
    squares = hn::MulAdd(centred, centred, squares);
  }
  float square = hn::GetLane(hn::SumOfLanes(d, squares));
  for (; i < count; ++i) square += (x[i] - mean) * (x[i] - mean);
  const float factor = 1.0f / std::sqrt(square / static_cast<float>(count) + eps);
  const V f = hn::Set(d, factor);
  for (i = 0; i + n <= count; i += n) {
    const V centred = hn::Mul(hn::Sub(hn::LoadU(d, x + i), m), f);
    hn::StoreU(hn::MulAdd(centred, hn::LoadU(d, gain + i), hn::LoadU(d, bias + i)), d, y + i);
  }
  for (; i < count; ++i) y[i] = (x[i] - mean) * factor * gain[i] + bias[i];
}

void Rotate(float* x, int64_t half, const float* cosine, const float* sine) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  int64_t k = 0;
  for (; k + n <= half; k += n) {
    const V a = hn::LoadU(d, x + k), b = hn::LoadU(d, x + half + k);
    const V c = hn::LoadU(d, cosine + k), s = hn::LoadU(d, sine + k);
    hn::StoreU(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), d, x + k);
    hn::StoreU(hn::Add(hn::Mul(b, c), hn::Mul(a, s)), d, x + half + k);
  }
  for (; k < half; ++k) {
    const float a = x[k], b = x[half + k];
    x[k] = a * cosine[k] - b * sine[k];
    x[half + k] = b * cosine[k] + a * sine[k];
  }
}

template <class Function>
HWY_INLINE void ActivateWith(Function&& function, float* x, const float* up, int64_t count) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const V value = function(hn::LoadU(d, x + i));
    hn::StoreU(up != nullptr ? hn::Mul(value, hn::LoadU(d, up + i)) : value, d, x + i);
  }
  if (i == count) return;
  HWY_ALIGN float tail[HWY_MAX_BYTES / sizeof(float)] = {};
  for (int64_t j = i; j < count; ++j) tail[j - i] = x[j];
  hn::Store(function(hn::Load(d, tail)), d, tail);
  for (int64_t j = i; j < count; ++j) x[j] = up != nullptr ? tail[j - i] * up[j] : tail[j - i];
}

void Activate(int activation, float* x, const float* up, int64_t count) {
  const F d;
  switch (static_cast<Activation>(activation)) {
    case Activation::silu:
      return ActivateWith([](V v) HWY_ATTR { return hn::Mul(v, sigmoid(v)); }, x, up, count);
    case Activation::gelu_tanh:
      return ActivateWith([](V v) HWY_ATTR { return gelu_tanh(v); }, x, up, count);
    case Activation::quick_gelu:
      return ActivateWith([d](V v) HWY_ATTR { return hn::Mul(v, sigmoid(hn::Mul(v, hn::Set(d, 1.702f)))); },
                          x, up, count);
    case Activation::relu:
      return ActivateWith([d](V v) HWY_ATTR { return hn::Max(v, hn::Zero(d)); }, x, up, count);
    case Activation::gelu_erf:
      for (int64_t i = 0; i < count; ++i) {
        const float value = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.70710678f));
        x[i] = up != nullptr ? value * up[i] : value;
      }
  }
}

HWY_INLINE float Maximum(const float* x, int64_t count) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  V best = hn::Set(d, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + n <= count; i += n) best = hn::Max(best, hn::LoadU(d, x + i));
  float maximum = hn::GetLane(hn::MaxOfLanes(d, best));
  for (; i < count; ++i) maximum = x[i] > maximum ? x[i] : maximum;
  return maximum;
}

float Softmax(float* x, int64_t count, float scale) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  // A negative scale would make the smallest value the largest; no model has one.
  const float maximum = Maximum(x, count) * scale;
  const V s = hn::Set(d, scale), m = hn::Set(d, maximum);
  V sums = hn::Zero(d);
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const V e = hn::Exp(d, hn::Sub(hn::Mul(hn::LoadU(d, x + i), s), m));
    hn::StoreU(e, d, x + i);
    sums = hn::Add(sums, e);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (; i < count; ++i) sum += x[i] = std::exp(x[i] * scale - maximum);
  return 1.0f / sum;
}

void AccumulateSoftmax(const float* x, int64_t count, float& maximum, double& sum) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  const float here = Maximum(x, count);
  if (here > maximum) {
    sum *= std::exp(static_cast<double>(maximum) - static_cast<double>(here));
    maximum = here;
  }
  const V m = hn::Set(d, maximum);
  int64_t i = 0;
  double total = 0;
  while (i + n <= count) {  // short runs in f32, their sums in f64
    V sums = hn::Zero(d);
    for (int64_t end = i + 16 * n < count ? i + 16 * n : count; i + n <= end; i += n) {
      sums = hn::Add(sums, hn::Exp(d, hn::Sub(hn::LoadU(d, x + i), m)));
    }
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sums)));
  }
  for (; i < count; ++i) total += std::exp(static_cast<double>(x[i]) - static_cast<double>(maximum));
  sum += total;
}

void FromF16(const std::byte* in, int64_t count, float* out) {
  const F d;
  const hn::Rebind<hwy::float16_t, F> d16;
  const hn::Rebind<uint16_t, F> du16;
  const auto n = static_cast<int64_t>(lanes());
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const auto bits = hn::LoadU(du16, reinterpret_cast<const uint16_t*>(in + 2 * i));
    hn::StoreU(hn::PromoteTo(d, hn::BitCast(d16, bits)), d, out + i);
  }
  for (; i < count; ++i) out[i] = f16_to_f32(load<uint16_t>(in + 2 * i));
}

void FromBf16(const std::byte* in, int64_t count, float* out) {
  const F d;
  const hn::RebindToUnsigned<F> du;
  const hn::Rebind<uint16_t, F> du16;
  const auto n = static_cast<int64_t>(lanes());
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const auto bits = hn::PromoteTo(du, hn::LoadU(du16, reinterpret_cast<const uint16_t*>(in + 2 * i)));
    hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(bits)), d, out + i);
  }
  for (; i < count; ++i) out[i] = bf16_to_f32(load<uint16_t>(in + 2 * i));
}

// The last codes of a row, which a whole word would read beyond.
HWY_INLINE void UnpackTail(const std::byte* packed, int64_t bytes, int64_t count, int bits, float* out) {
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
    HWY_TARGET <= HWY_AVX2  // below AVX2 (no F16C) Highway's emulation does not round to nearest even
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

float MaxMagnitude(const float* x, int64_t count) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  V best = hn::Zero(d);
  int64_t i = 0;
  for (; i + n <= count; i += n) best = hn::Max(best, hn::Abs(hn::LoadU(d, x + i)));
  float largest = hn::GetLane(hn::MaxOfLanes(d, best));
  for (; i < count; ++i) largest = std::fabs(x[i]) > largest ? std::fabs(x[i]) : largest;
  return largest;
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
      hn::StoreU(hn::ConvertTo(d, hn::BitCast(hn::RebindToSigned<decltype(d)>(), codes)), d, out + i);
    }
    if (i < count) UnpackTail(packed + at, bytes - at, count - i, bits, out + i);
    return;
  }
  int64_t i = 0, at = 0;
  for (; at + 8 <= bytes && i + 8 <= count; i += 8, at += bits) {  // eight codes take `bits` bytes
    const auto stream = load<uint64_t>(packed + at);
    const auto low = static_cast<uint32_t>(stream), high = static_cast<uint32_t>(stream >> (4 * bits));
    for (int lane = 0; lane < 4; ++lane) {
      words[lane] = low;
      words[4 + lane] = high;
    }
    for (int64_t lane = 0; lane < 8; lane += n) {
      const auto codes = hn::And(hn::Shr(hn::Load(du, words + lane), hn::Load(du, shifts + lane)), mask);
      hn::StoreU(hn::ConvertTo(d, hn::BitCast(hn::RebindToSigned<decltype(d)>(), codes)), d, out + i + lane);
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

float DotGroup(const float* codes, const float* x, float zero, int64_t count) {
  const F d;
  const auto n = static_cast<int64_t>(lanes());
  const V z = hn::Set(d, zero);
  V a = hn::Zero(d), b = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * n <= count; i += 2 * n) {
    a = hn::MulAdd(hn::Sub(hn::LoadU(d, codes + i), z), hn::LoadU(d, x + i), a);
    b = hn::MulAdd(hn::Sub(hn::LoadU(d, codes + i + n), z), hn::LoadU(d, x + i + n), b);
  }
  for (; i + n <= count; i += n) a = hn::MulAdd(hn::Sub(hn::LoadU(d, codes + i), z), hn::LoadU(d, x + i), a);
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
  for (; i < count; ++i) sum += (codes[i] - zero) * x[i];
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qwb::simd {

HWY_EXPORT(Dot);
HWY_EXPORT(Axpy);
HWY_EXPORT(Add);
HWY_EXPORT(AllFinite);
HWY_EXPORT(RmsNorm);
HWY_EXPORT(LayerNorm);
HWY_EXPORT(Rotate);
HWY_EXPORT(Activate);
HWY_EXPORT(Softmax);
HWY_EXPORT(AccumulateSoftmax);
HWY_EXPORT(FromF16);
HWY_EXPORT(FromBf16);
HWY_EXPORT(ToF16);
HWY_EXPORT(ToBf16);
HWY_EXPORT(MaxMagnitude);
HWY_EXPORT(Unpack);
HWY_EXPORT(DequantizeGroup);
HWY_EXPORT(FromInt8);
HWY_EXPORT(DotGroup);

float dot(const float* x, const float* y, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(Dot)(x, y, count);
}
void axpy(float a, const float* x, float* y, int64_t count) {
  HWY_DYNAMIC_DISPATCH(Axpy)(a, x, y, count);
}
void add(float* x, const float* y, int64_t count) {
  HWY_DYNAMIC_DISPATCH(Add)(x, y, count);
}
bool all_finite(const float* x, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(AllFinite)(x, count);
}
void rms_norm(const float* x, int64_t n, const float* gain, float eps, float* y) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(x, n, gain, eps, y);
}
void layer_norm(const float* x, int64_t n, const float* gain, const float* bias, float eps, float* y) {
  HWY_DYNAMIC_DISPATCH(LayerNorm)(x, n, gain, bias, eps, y);
}
void rotate(float* x, int64_t half, const float* cosine, const float* sine) {
  HWY_DYNAMIC_DISPATCH(Rotate)(x, half, cosine, sine);
}
void activate(Activation activation, float* x, const float* up, int64_t count) {
  HWY_DYNAMIC_DISPATCH(Activate)(static_cast<int>(activation), x, up, count);
}
float softmax(float* x, int64_t count, float scale) {
  return HWY_DYNAMIC_DISPATCH(Softmax)(x, count, scale);
}
void accumulate_softmax(const float* x, int64_t count, float& maximum, double& sum) {
  HWY_DYNAMIC_DISPATCH(AccumulateSoftmax)(x, count, maximum, sum);
}
void from_f16(const std::byte* in, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(FromF16)(in, count, out);
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
float max_magnitude(const float* x, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(MaxMagnitude)(x, count);
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
float dot_group(const float* codes, const float* x, float zero, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotGroup)(codes, x, zero, count);
}

}  // namespace qwb::simd
#endif
