#include "lib/exec/cpu/divergence.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/exec/cpu/divergence.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "lib/exec/cpu/simd.h"

HWY_BEFORE_NAMESPACE();
namespace qwb {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

float LargestLogit(const float* x, int64_t count) {
  const hn::ScalableTag<float> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  float largest = x[0];
  int64_t i = 0;
  if (count >= n) {
    auto best = hn::LoadU(d, x);
    for (i = n; i + n <= count; i += n) best = hn::Max(best, hn::LoadU(d, x + i));
    largest = hn::GetLane(hn::MaxOfLanes(d, best));
  }
  for (; i < count; ++i) largest = std::max(largest, x[i]);
  return largest;
}

// sums[0], sums[1]: of exp(x - its maximum), base and other; sums[2]: of exp(base - its maximum) *
// (base - other).
void DivergenceSums(const float* base, const float* other, int64_t count, float base_maximum,
                    float other_maximum, double* sums) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> half;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  const auto a0 = hn::Set(d, static_cast<double>(base_maximum)),
             b0 = hn::Set(d, static_cast<double>(other_maximum));
  auto a_sum = hn::Zero(d), b_sum = hn::Zero(d), difference = hn::Zero(d);
  int64_t i = 0;
  for (; i + n <= count; i += n) {
    const auto a = hn::PromoteTo(d, hn::LoadU(half, base + i)),
               b = hn::PromoteTo(d, hn::LoadU(half, other + i));
    const auto p = hn::Exp(d, hn::Sub(a, a0));
    a_sum = hn::Add(a_sum, p);
    b_sum = hn::Add(b_sum, hn::Exp(d, hn::Sub(b, b0)));
    difference = hn::MulAdd(p, hn::Sub(a, b), difference);
  }
  sums[0] = hn::GetLane(hn::SumOfLanes(d, a_sum));
  sums[1] = hn::GetLane(hn::SumOfLanes(d, b_sum));
  sums[2] = hn::GetLane(hn::SumOfLanes(d, difference));
  for (; i < count; ++i) {
    const double a = static_cast<double>(base[i]), b = static_cast<double>(other[i]);
    const double p = std::exp(a - static_cast<double>(base_maximum));
    sums[0] += p;
    sums[1] += std::exp(b - static_cast<double>(other_maximum));
    sums[2] += p * (a - b);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace qwb
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qwb {
HWY_EXPORT(LargestLogit);
HWY_EXPORT(DivergenceSums);

RowDivergence row_divergence(const float* base, const float* other, int64_t count, int64_t target) {
  RowDivergence row;
  if (!simd::all_finite(base, count) || !simd::all_finite(other, count)) {
    row.finite = false;
    return row;
  }
  const float base_maximum = HWY_DYNAMIC_DISPATCH(LargestLogit)(base, count),
              other_maximum = HWY_DYNAMIC_DISPATCH(LargestLogit)(other, count);
  double sums[3];
  HWY_DYNAMIC_DISPATCH(DivergenceSums)(base, other, count, base_maximum, other_maximum, sums);
  const double base_log = static_cast<double>(base_maximum) + std::log(sums[0]),
               other_log = static_cast<double>(other_maximum) + std::log(sums[1]);
  // Rounding may leave a divergence of nothing a little below zero.
  row.kl = std::max(0.0, sums[2] / sums[0] - base_log + other_log);
  row.base_loss = base_log - static_cast<double>(base[target]);
  row.other_loss = other_log - static_cast<double>(other[target]);
  row.base_top = std::find(base, base + count, base_maximum) - base;
  row.other_top = std::find(other, other + count, other_maximum) - other;
  return row;
}

}  // namespace qwb
#endif
