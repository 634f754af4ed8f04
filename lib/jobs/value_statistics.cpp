#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lib/base/parallel.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/jobs/describe.h"

namespace qwb {
namespace {

// Count, mean and sum of squared deviations can be merged without cancellation (Chan, Golub and
// LeVeque
// 1979).
struct Moments2 {
  double count = 0, mean = 0, squares = 0;
  double least = std::numeric_limits<double>::infinity(), most = -least;
  int64_t zeros = 0, non_finite = 0;

  void merge(const Moments2& other) {
    zeros += other.zeros;
    non_finite += other.non_finite;
    if (other.count == 0) return;
    const double both = count + other.count;
    const double step = other.mean - mean;
    mean += step * other.count / both;
    squares += other.squares + step * step * count * other.count / both;
    count = both;
    least = std::min(least, other.least);
    most = std::max(most, other.most);
  }
};

Moments2 moments_of(const float* values, int64_t count) {
  Moments2 result;
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double value = values[i];
    if (!std::isfinite(value)) {
      ++result.non_finite;
      continue;
    }
    sum += value;
    result.count += 1;
    result.zeros += value == 0 ? 1 : 0;
    result.least = std::min(result.least, value);
    result.most = std::max(result.most, value);
  }
  if (result.count == 0) return result;
  result.mean = sum / result.count;
  for (int64_t i = 0; i < count; ++i) {
    const double step = values[i] - result.mean;
    if (std::isfinite(step)) result.squares += step * step;
  }
  return result;
}

}  // namespace

Json value_statistics(const Weight& weight, const Context& context) {
  const int64_t rows = weight.rows();
  const int64_t columns = weight.columns();
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 18) / std::max<int64_t>(columns, 1));
  std::vector<Moments2> parts(static_cast<size_t>(ceil_div(rows, grain)));
  parallel_ranges(context, rows, grain, [&](int64_t begin, int64_t end) {
    const FloatBuffer values((end - begin) * columns);
    dequantize_rows(weight, begin, end, values.data());
    parts[begin / grain] = moments_of(values.data(), values.size());
  });
  Moments2 all;
  for (const Moments2& part : parts) all.merge(part);
  const bool any = all.count > 0;
  const auto figure = [&](double value) { return any ? Json(value) : Json(nullptr); };
  return {{"count", rows * columns},
          {"min", figure(all.least)},
          {"max", figure(all.most)},
          {"mean", figure(all.mean)},
          {"std", figure(std::sqrt(all.squares / all.count))},
          {"absmax", figure(std::max(std::abs(all.least), std::abs(all.most)))},
          {"zeros", figure(static_cast<double>(all.zeros) / all.count)},
          {"non_finite", all.non_finite}};
}

}  // namespace qwb
