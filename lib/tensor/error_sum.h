// |W - W'|^2 and |W|^2 of a weight and what was made of it, summed in f64 piece by piece, so that
// the number of threads does not change a sum.
#pragma once

#include <cstdint>
#include <vector>

namespace qwb {

// Of one piece of the weight: a row, a run of blocks.
struct ErrorSum {
  double error = 0;
  double norm = 0;
  void add(float weight, float quantized) {
    const double difference = static_cast<double>(weight) - quantized;
    error += difference * difference;
    norm += static_cast<double>(weight) * weight;
  }
  void add(const ErrorSum& other) {
    error += other.error;
    norm += other.norm;
  }
};

// Of two runs of values.
ErrorSum error_sum(const float* weights, const float* quantized, int64_t count);

// |W - W'|^2 / |W|^2; the largest double if only the norm is 0.
double relative_error(const std::vector<ErrorSum>& pieces);

}  // namespace qwb
