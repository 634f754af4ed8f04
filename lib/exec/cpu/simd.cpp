#include "lib/exec/cpu/simd.h"

#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/exec/cpu/simd.cpp"
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
  const V inner =
      hn::Mul(x, hn::MulAdd(hn::Mul(x, x), hn::Set(d, 2.0f * 0.7978845608028654f * 0.044715f),
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
  for (; i + n <= count; i += n)
    hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, x + i);
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

void LayerNorm(const float* x, int64_t count, const float* gain, const float* bias, float eps,
               float* y) {
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
      return ActivateWith(
          [d](V v) HWY_ATTR { return hn::Mul(v, sigmoid(hn::Mul(v, hn::Set(d, 1.702f)))); }, x, up,
          count);
    case Activation::relu:
      return ActivateWith([d](V v) HWY_ATTR { return hn::Max(v, hn::Zero(d)); }, x, up, count);
    case Activation::gelu_erf:
      for (int64_t i = 0; i < count; ++i) {
        const float value = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.70710678f));
        x[i] = up != nullptr ? value * up[i] : value;
      }
  }
}

void SoftCap(float* x, int64_t count, float scale, float cap) {
  const F d;
  const V s = hn::Set(d, scale / cap), c = hn::Set(d, cap);
  ActivateWith([&](V v) HWY_ATTR { return hn::Mul(c, hn::Tanh(d, hn::Mul(v, s))); }, x, nullptr,
               count);
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
  for (; i < count; ++i)
    total += std::exp(static_cast<double>(x[i]) - static_cast<double>(maximum));
  sum += total;
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
HWY_EXPORT(SoftCap);
HWY_EXPORT(Softmax);
HWY_EXPORT(AccumulateSoftmax);
HWY_EXPORT(MaxMagnitude);

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
void layer_norm(const float* x, int64_t n, const float* gain, const float* bias, float eps,
                float* y) {
  HWY_DYNAMIC_DISPATCH(LayerNorm)(x, n, gain, bias, eps, y);
}
void rotate(float* x, int64_t half, const float* cosine, const float* sine) {
  HWY_DYNAMIC_DISPATCH(Rotate)(x, half, cosine, sine);
}
void activate(Activation activation, float* x, const float* up, int64_t count) {
  HWY_DYNAMIC_DISPATCH(Activate)(static_cast<int>(activation), x, up, count);
}
void soft_cap(float* x, int64_t count, float scale, float cap) {
  HWY_DYNAMIC_DISPATCH(SoftCap)(x, count, scale, cap);
}
float softmax(float* x, int64_t count, float scale) {
  return HWY_DYNAMIC_DISPATCH(Softmax)(x, count, scale);
}
void accumulate_softmax(const float* x, int64_t count, float& maximum, double& sum) {
  HWY_DYNAMIC_DISPATCH(AccumulateSoftmax)(x, count, maximum, sum);
}
float max_magnitude(const float* x, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(MaxMagnitude)(x, count);
}

}  // namespace qwb::simd
#endif
