#include "lib/exec/cpu/training_simd.h"

#include <cmath>

#include "lib/exec/cpu/simd.h"
#include "lib/exec/reference/activation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/exec/cpu/training_simd.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using BackTag = hn::ScalableTag<float>;
using BackVec = hn::Vec<BackTag>;

// The first `left` values, 0 behind them. Not by MaskedLoad: SSE has none, and what stands for it
// there reads all lanes, aligned.
HWY_INLINE BackVec Load(const float* x, int64_t left) {
  const BackTag d;
  if (left >= static_cast<int64_t>(hn::Lanes(d))) return hn::LoadU(d, x);
  HWY_ALIGN float tail[HWY_MAX_BYTES / sizeof(float)] = {};
  for (int64_t i = 0; i < left; ++i) tail[i] = x[i];
  return hn::Load(d, tail);
}
HWY_INLINE void Store(BackVec value, float* x, int64_t left) {
  const BackTag d;
  if (left >= static_cast<int64_t>(hn::Lanes(d))) {
    hn::StoreU(value, d, x);
    return;
  }
  HWY_ALIGN float tail[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(value, d, tail);
  for (int64_t i = 0; i < left; ++i) x[i] = tail[i];
}

// body(i, left) for the first value of every vector, `left` values being there from it on.
template <class Body>
HWY_INLINE void Each(int64_t count, const Body& body) {
  const auto n = static_cast<int64_t>(hn::Lanes(BackTag()));
  for (int64_t i = 0; i < count; i += n) body(i, count - i);
}

HWY_INLINE BackVec Sigmoid(BackVec x) {
  const BackTag d;
  const BackVec exponent = hn::Min(hn::Neg(x), hn::Set(d, 88.0f));
  return hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), hn::Exp(d, exponent)));
}

void Exponentials(float* x, int64_t count, float scale, float offset) {
  const BackTag d;
  const BackVec s = hn::Set(d, scale), o = hn::Set(d, offset);
  Each(count, [&](int64_t i, int64_t left) HWY_ATTR {
    Store(hn::Exp(d, hn::Sub(hn::Mul(Load(x + i, left), s), o)), x + i, left);
  });
}

void SoftmaxBack(const float* weights, float mean, float scale, float* dscores, int64_t count) {
  const BackTag d;
  const BackVec m = hn::Set(d, mean), s = hn::Set(d, scale);
  Each(count, [&](int64_t i, int64_t left) HWY_ATTR {
    const BackVec along = hn::Sub(Load(dscores + i, left), m);
    Store(hn::Mul(hn::Mul(Load(weights + i, left), along), s), dscores + i, left);
  });
}

// Value and slope of x sigmoid(k x).
HWY_INLINE void SwishOf(BackVec x, float k, BackVec& value, BackVec& slope) {
  const BackTag d;
  const BackVec one = hn::Set(d, 1.0f), kx = hn::Mul(x, hn::Set(d, k)), s = Sigmoid(kx);
  value = hn::Mul(x, s);
  slope = hn::Mul(s, hn::MulAdd(kx, hn::Sub(one, s), one));
}

// The same of gelu_tanh: x sigmoid(u), u = 2 sqrt(2 / pi) (x + 0.044715 x^3).
HWY_INLINE void GeluTanhOf(BackVec x, BackVec& value, BackVec& slope) {
  const BackTag d;
  constexpr float kTwice = 2.0f * 0.7978845608028654f;
  const BackVec square = hn::Mul(x, x), one = hn::Set(d, 1.0f);
  const BackVec u =
      hn::Mul(x, hn::MulAdd(square, hn::Set(d, kTwice * 0.044715f), hn::Set(d, kTwice)));
  const BackVec du = hn::MulAdd(square, hn::Set(d, 3 * kTwice * 0.044715f), hn::Set(d, kTwice));
  const BackVec s = Sigmoid(u);
  value = hn::Mul(x, s);
  slope = hn::Mul(s, hn::MulAdd(hn::Mul(x, du), hn::Sub(one, s), one));
}

// function(x, value, slope) sets the last two.
template <class Function>
HWY_INLINE void ActivateBackWith(const Function& function, const BackRun& run) {
  Each(run.count, [&](int64_t i, int64_t left) HWY_ATTR {
    BackVec value, slope;
    function(Load(run.gate + i, left), value, slope);
    const BackVec dy = Load(run.dy + i, left);
    if (run.up == nullptr) {
      Store(hn::Mul(dy, slope), run.dgate + i, left);
      return;
    }
    const BackVec dup = hn::Mul(dy, value);
    Store(hn::Mul(hn::Mul(dy, Load(run.up + i, left)), slope), run.dgate + i, left);
    Store(dup, run.dup + i, left);
  });
}

void ActivateBack(int activation, const BackRun& run) {
  const BackTag d;
  switch (static_cast<Activation>(activation)) {
    case Activation::silu:
      return ActivateBackWith([](BackVec x, BackVec& value, BackVec& slope)
                                  HWY_ATTR { SwishOf(x, 1.0f, value, slope); },
                              run);
    case Activation::quick_gelu:
      return ActivateBackWith([](BackVec x, BackVec& value, BackVec& slope)
                                  HWY_ATTR { SwishOf(x, 1.702f, value, slope); },
                              run);
    case Activation::gelu_tanh:
      return ActivateBackWith([](BackVec x, BackVec& value, BackVec& slope)
                                  HWY_ATTR { GeluTanhOf(x, value, slope); },
                              run);
    case Activation::relu:
      return ActivateBackWith(
          [d](BackVec x, BackVec& value, BackVec& slope) HWY_ATTR {
            const BackVec zero = hn::Zero(d);
            value = hn::Max(x, zero);
            slope = hn::IfThenElseZero(hn::Gt(x, zero), hn::Set(d, 1.0f));
          },
          run);
    case Activation::gelu_erf:
      for (int64_t i = 0; i < run.count; ++i) {
        const auto gate = static_cast<double>(run.gate[i]), dy = static_cast<double>(run.dy[i]);
        const double slope = dy * plain_slope(Activation::gelu_erf, gate);
        if (run.up != nullptr) {
          run.dup[i] = static_cast<float>(dy * plain_act(Activation::gelu_erf, gate));
          run.dgate[i] = static_cast<float>(slope * static_cast<double>(run.up[i]));
        } else {
          run.dgate[i] = static_cast<float>(slope);
        }
      }
  }
}

// Sum over a row of function(i, left), in lane order.
template <class Function>
HWY_INLINE float RowSum(int64_t count, const Function& function) {
  const BackTag d;
  BackVec sum = hn::Zero(d);
  Each(count, [&](int64_t i, int64_t left) HWY_ATTR { sum = hn::Add(sum, function(i, left)); });
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// dx = (dy gain - level - (x - mean) along) inverse, or added to dx.
HWY_INLINE void NormBack(const NormRow& row, float mean, float inverse, float level, float along,
                         bool add, float* dx) {
  const BackTag d;
  const BackVec m = hn::Set(d, mean), f = hn::Set(d, inverse), l = hn::Set(d, level),
                a = hn::Set(d, along);
  Each(row.count, [&](int64_t i, int64_t left) HWY_ATTR {
    const BackVec g = hn::Mul(Load(row.dy + i, left), Load(row.gain + i, left));
    const BackVec z = hn::Mul(hn::Sub(Load(row.x + i, left), m), a);
    BackVec made = hn::Mul(hn::Sub(hn::Sub(g, l), z), f);
    if (add) made = hn::Add(made, Load(dx + i, left));
    Store(made, dx + i, left);
  });
}

void RmsNormBack(const NormRow& row, float eps, bool add, float* dx) {
  const auto n = static_cast<float>(row.count);
  const float square = RowSum(row.count, [&](int64_t i, int64_t left) HWY_ATTR {
    const BackVec x = Load(row.x + i, left);
    return hn::Mul(x, x);
  });
  const float dot = RowSum(row.count, [&](int64_t i, int64_t left) HWY_ATTR {
    return hn::Mul(hn::Mul(Load(row.dy + i, left), Load(row.gain + i, left)),
                   Load(row.x + i, left));
  });
  const float inverse = 1.0f / std::sqrt(square / n + eps);
  NormBack(row, 0, inverse, 0, dot / n * inverse * inverse, add, dx);
}

void LayerNormBack(const NormRow& row, float eps, bool add, float* dx) {
  const BackTag d;
  const auto n = static_cast<float>(row.count);
  const float mean =
      RowSum(row.count, [&](int64_t i, int64_t left) HWY_ATTR { return Load(row.x + i, left); }) /
      n;
  const BackVec m = hn::Set(d, mean);
  // Lanes behind the end would hold the mean.
  const auto centred = [&](int64_t i, int64_t left) HWY_ATTR {
    const BackVec value = hn::Sub(Load(row.x + i, left), m);
    return left >= static_cast<int64_t>(hn::Lanes(d))
               ? value
               : hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(left)), value);
  };
  const float square = RowSum(row.count, [&](int64_t i, int64_t left) HWY_ATTR {
    const BackVec value = centred(i, left);
    return hn::Mul(value, value);
  });
  const auto g = [&](int64_t i, int64_t left)
                     HWY_ATTR { return hn::Mul(Load(row.dy + i, left), Load(row.gain + i, left)); };
  const float level = RowSum(row.count, g) / n;
  const float dot = RowSum(row.count, [&](int64_t i, int64_t left) HWY_ATTR {
    return hn::Mul(g(i, left), centred(i, left));
  });
  const float inverse = 1.0f / std::sqrt(square / n + eps);
  NormBack(row, mean, inverse, level, dot / n * inverse * inverse, add, dx);
}

void AdamW(float* x, const float* gradient, float* first, float* second, int64_t count,
           const AdamWRun& run) {
  const BackTag d;
  const auto set = [d](float value) HWY_ATTR { return hn::Set(d, value); };
  const BackVec keep = set(run.keep), rate = set(run.rate), beta1 = set(run.beta1),
                rest1 = set(run.rest1), beta2 = set(run.beta2), rest2 = set(run.rest2),
                scale2 = set(run.second), eps = set(run.eps), factor = set(run.gradient_scale);
  Each(count, [&](int64_t i, int64_t left) HWY_ATTR {
    const BackVec g = hn::Mul(Load(gradient + i, left), factor);
    const BackVec m = hn::Add(hn::Mul(beta1, Load(first + i, left)), hn::Mul(rest1, g));
    const BackVec v =
        hn::Add(hn::Mul(beta2, Load(second + i, left)), hn::Mul(rest2, hn::Mul(g, g)));
    Store(m, first + i, left);
    Store(v, second + i, left);
    const BackVec root = hn::Add(hn::Sqrt(hn::Mul(v, scale2)), eps);
    const BackVec kept = hn::Mul(Load(x + i, left), keep);
    Store(hn::Sub(kept, hn::Div(hn::Mul(rate, m), root)), x + i, left);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qwb::simd {

HWY_EXPORT(Exponentials);
HWY_EXPORT(SoftmaxBack);
HWY_EXPORT(ActivateBack);
HWY_EXPORT(RmsNormBack);
HWY_EXPORT(LayerNormBack);
HWY_EXPORT(AdamW);

void exponentials(float* x, int64_t count, float scale, float offset) {
  HWY_DYNAMIC_DISPATCH(Exponentials)(x, count, scale, offset);
}
void softmax_back(const float* weights, float mean, float scale, float* dscores, int64_t count) {
  HWY_DYNAMIC_DISPATCH(SoftmaxBack)(weights, mean, scale, dscores, count);
}
void activate_back(Activation activation, const BackRun& run) {
  HWY_DYNAMIC_DISPATCH(ActivateBack)(static_cast<int>(activation), run);
}
void rms_norm_back(const NormRow& row, float eps, bool add, float* dx) {
  HWY_DYNAMIC_DISPATCH(RmsNormBack)(row, eps, add, dx);
}
void layer_norm_back(const NormRow& row, float eps, bool add, float* dx) {
  HWY_DYNAMIC_DISPATCH(LayerNormBack)(row, eps, add, dx);
}
void adamw(float* x, const float* gradient, float* first, float* second, int64_t count,
           const AdamWRun& run) {
  HWY_DYNAMIC_DISPATCH(AdamW)(x, gradient, first, second, count, run);
}

}  // namespace qwb::simd
#endif
