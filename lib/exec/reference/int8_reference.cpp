// LLM.int8's product once more, in plain loops from its definition.
#include <cmath>
#include <limits>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/half.h"
#include "lib/codec/int8_rows.h"
#include "lib/exec/cpu/int8_product.h"

namespace qwb {
namespace {

float f16_value(float value) {
  const float half = f16_to_f32(f32_to_f16(value));
  return std::isfinite(half) ? half : value;
}

// Largest magnitude below the threshold; NaN if the row has one.
float inlier_absmax(const float* x, int64_t in, float threshold) {
  float absmax = 0;
  for (int64_t i = 0; i < in; ++i) {
    const float magnitude = std::fabs(f16_value(x[i]));
    if (std::isnan(magnitude)) return magnitude;
    if (threshold > 0 && magnitude >= threshold) continue;
    if (magnitude > absmax) absmax = magnitude;
  }
  return absmax;
}

int64_t code_of(float x, float absmax) {
  if (!(absmax > 0) || !std::isfinite(absmax)) return 0;
  const float factor = (1.0f / absmax) * 127.0f;
  return static_cast<int64_t>(
      std::nearbyint(std::fmin(std::fmax(f16_value(x) * factor, -127.0f), 127.0f)));
}

}  // namespace

void reference_int8_product(const float* x, int64_t tokens, const Weight& weight, float threshold,
                            const float* bias, float* y) {
  const auto& rows = weight.get<Int8Rows>();
  const int64_t in = weight.in, out = weight.out;
  std::vector<bool> outlier(static_cast<size_t>(in));
  for (int64_t k = 0; k < tokens * in; ++k) {
    if (threshold > 0 && std::fabs(f16_value(x[k])) >= threshold) outlier[k % in] = true;
  }
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = x + t * in;
    const float absmax = inlier_absmax(row, in, threshold);
    for (int64_t o = 0; o < out; ++o) {
      const auto* codes = reinterpret_cast<const int8_t*>(rows.codes.bytes.data()) + o * in;
      const double scale = static_cast<double>(load<float>(rows.absmax.bytes.data() + 4 * o));
      int64_t sum = 0;
      double exact = bias != nullptr ? static_cast<double>(bias[o]) : 0.0;
      for (int64_t i = 0; i < in; ++i) {
        if (outlier[i]) {
          exact += static_cast<double>(row[i]) * codes[i] * scale / 127;
        } else {
          sum += code_of(row[i], absmax) * codes[i];
        }
      }
      const double product =
          static_cast<double>(sum) * static_cast<double>(absmax) * scale / (127 * 127);
      y[t * out + o] = static_cast<float>(product + exact);
    }
  }
}

}  // namespace qwb
