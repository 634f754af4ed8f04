#include "tests/quantize/awq_helper.h"

namespace qwb {

std::vector<float> outlier_inputs(int64_t tokens, int64_t columns, uint64_t seed) {
  std::vector<float> x = correlated_inputs(tokens, columns, seed);
  for (size_t k = 0; k < x.size(); ++k) {
    if (k % static_cast<size_t>(columns) % 11 == 3) x[k] *= 20;
  }
  return x;
}

double rounded(double value, double low, double high, int bits) {
  const float scale = static_cast<float>(high - low) / static_cast<float>((1 << bits) - 1);
  if (scale == 0) return 0;
  const double zero = std::nearbyint(std::min(std::max(-low / scale, 0.0), std::exp2(bits) - 1));
  const double code =
      std::min(std::max(std::nearbyint(value / scale), -zero), std::exp2(bits) - 1 - zero);
  return code * scale;
}

}  // namespace qwb
