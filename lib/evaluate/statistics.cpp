#include "lib/evaluate/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "lib/base/error.h"
#include "lib/base/rng.h"

namespace qwb {
namespace {

constexpr uint64_t kSeed = 20'240'901;

// The estimate of some units and its linearized standard error: with residuals r = sum - value *
// weight, sqrt(n / (n - 1) * sum of r^2) / total weight.
struct Linearized {
  double value = 0;
  double error = 0;
};

// Sums over a sample of units, from which both follow.
struct Moments {
  double sum = 0, weight = 0, sum2 = 0, cross = 0, weight2 = 0;
  void add(const Unit& unit) {
    sum += unit.sum;
    weight += unit.weight;
    sum2 += unit.sum * unit.sum;
    cross += unit.sum * unit.weight;
    weight2 += unit.weight * unit.weight;
  }
  Linearized linearized(double n) const {
    const double value = sum / weight;
    const double squares = std::max(0.0, sum2 - 2 * value * cross + value * value * weight2);
    return {value, std::sqrt(n / (n - 1) * squares) / weight};
  }
};

// Units whose estimate is zero: sums of squares of residuals then cancel nothing.
std::vector<Unit> centred(std::span<const Unit> units, double value) {
  std::vector<Unit> result(units.begin(), units.end());
  for (Unit& unit : result) unit.sum -= value * unit.weight;
  return result;
}

// Uniform below n up to 2^-53, and without the two divisions of Rng::below: this is the inner loop.
size_t pick(Rng& rng, size_t n) {
  return static_cast<size_t>(rng.uniform() * static_cast<double>(n));
}

Interval student_interval(double value, double error, int64_t units) {
  const double half = student_t_975(units - 1) * error;
  return {value - half, value + half};
}

}  // namespace

Estimate estimate_mean(std::span<const Unit> units) {
  Moments all;
  for (const Unit& unit : units) all.add(unit);
  if (units.empty() || !(all.weight > 0))
    throw Error(ErrorKind::usage, "nothing to take the mean of");
  Estimate estimate;
  estimate.value = all.sum / all.weight;
  const size_t n = units.size();
  if (n < 2) return estimate;
  const std::vector<Unit> rest = centred(units, estimate.value);
  Moments exact;
  for (const Unit& unit : rest) exact.add(unit);
  const double error = exact.linearized(static_cast<double>(n)).error;
  Rng rng(kSeed);
  std::vector<double> ratios;
  double squares = 0, sum = 0;
  int64_t resamples = 0;
  for (int64_t b = 0; b < kResamples; ++b) {
    Moments sample;
    for (size_t i = 0; i < n; ++i) sample.add(rest[pick(rng, n)]);
    if (!(sample.weight > 0)) continue;  // documents without words may have none
    const Linearized of_sample = sample.linearized(static_cast<double>(n));
    sum += of_sample.value;
    squares += of_sample.value * of_sample.value;
    ++resamples;
    // A resample of one unit n times has no error of its own.
    if (of_sample.error > 1e-9 * error) ratios.push_back(of_sample.value / of_sample.error);
  }
  const double count = static_cast<double>(resamples), mean = sum / count;
  estimate.standard_error = std::sqrt(std::max(0.0, squares / count - mean * mean) *
                                      static_cast<double>(n) / static_cast<double>(n - 1));
  if (static_cast<int64_t>(n) < kFewUnits || ratios.empty()) {
    estimate.interval = student_interval(estimate.value, error, static_cast<int64_t>(n));
  } else {
    std::sort(ratios.begin(), ratios.end());
    estimate.interval = Interval{estimate.value - quantile_of_sorted(ratios, 0.975) * error,
                                 estimate.value - quantile_of_sorted(ratios, 0.025) * error};
  }
  return estimate;
}

Estimate exp_of(const Estimate& estimate) {
  Estimate result;
  result.value = std::exp(estimate.value);
  if (estimate.standard_error) result.standard_error = result.value * *estimate.standard_error;
  if (estimate.interval)
    result.interval = Interval{std::exp(estimate.interval->low), std::exp(estimate.interval->high)};
  return result;
}

Estimate scaled(const Estimate& estimate, double factor) {
  Estimate result = estimate;
  result.value *= factor;
  if (result.standard_error) *result.standard_error *= factor;
  if (result.interval)
    result.interval = Interval{result.interval->low * factor, result.interval->high * factor};
  return result;
}

Estimate sqrt_of(const Estimate& estimate) {
  Estimate result;
  result.value = std::sqrt(std::max(0.0, estimate.value));
  if (estimate.standard_error)
    result.standard_error = result.value > 0 ? *estimate.standard_error / (2 * result.value) : 0;
  if (estimate.interval) {
    result.interval = Interval{std::sqrt(std::max(0.0, estimate.interval->low)),
                               std::sqrt(std::max(0.0, estimate.interval->high))};
  }
  return result;
}

std::vector<Unit> differences(std::span<const Unit> a, std::span<const Unit> b) {
  if (a.size() != b.size())
    throw Error(ErrorKind::usage, "pairs need two lists of the same length");
  std::vector<Unit> result;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].weight != b[i].weight) throw Error(ErrorKind::usage, "pairs need the same weights");
    result.push_back({a[i].sum - b[i].sum, a[i].weight});
  }
  return result;
}

double quantile_of_sorted(std::span<const double> sorted, double fraction) {
  if (sorted.empty()) throw Error(ErrorKind::usage, "a quantile of nothing");
  const double place = fraction * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  if (below + 1 >= sorted.size()) return sorted.back();
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[below + 1] - sorted[below]);
}

double student_t_975(int64_t degrees_of_freedom) {
  static constexpr std::array<double, 30> table = {
      12.7062047, 4.3026527, 3.1824463, 2.7764451, 2.5705818, 2.4469119, 2.3646243, 2.3060041,
      2.2621572,  2.2281389, 2.2009852, 2.1788128, 2.1603687, 2.1447867, 2.1314495, 2.1199053,
      2.1098156,  2.1009220, 2.0930241, 2.0859634, 2.0796138, 2.0738731, 2.0686576, 2.0638986,
      2.0595386,  2.0555294, 2.0518305, 2.0484071, 2.0452296, 2.0422725};
  if (degrees_of_freedom < 1)
    throw Error(ErrorKind::usage, "Student's t needs a degree of freedom");
  if (degrees_of_freedom <= 30) return table[degrees_of_freedom - 1];
  // Cornish-Fisher expansion about the normal quantile; off by less than 1e-6 here.
  const double z = 1.959963984540054, v = static_cast<double>(degrees_of_freedom);
  const double z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
  return z + (z3 + z) / (4 * v) + (5 * z5 + 16 * z3 + 3 * z) / (96 * v * v) +
         (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * v * v * v);
}

}  // namespace qwb
