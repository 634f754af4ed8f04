#include "lib/tensor/error_sum.h"

#include <limits>

namespace qwb {

ErrorSum error_sum(const float* weights, const float* quantized, int64_t count) {
  constexpr int64_t kLanes = 8;  // independent sums, which compilers turn into vectors
  double errors[kLanes] = {}, norms[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t k = 0; k < kLanes; ++k) {
      const double weight = weights[i + k], difference = weight - quantized[i + k];
      errors[k] += difference * difference;
      norms[k] += weight * weight;
    }
  }
  ErrorSum total;
  for (int64_t k = 0; k < kLanes; ++k) total.add(ErrorSum{errors[k], norms[k]});
  for (; i < count; ++i) total.add(weights[i], quantized[i]);
  return total;
}

double relative_error(const std::vector<ErrorSum>& pieces) {
  ErrorSum total;
  for (const ErrorSum& piece : pieces) total.add(piece);
  if (total.norm > 0) return total.error / total.norm;
  return total.error > 0 ? std::numeric_limits<double>::max() : 0;
}

}  // namespace qwb
