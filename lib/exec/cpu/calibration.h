// The operations of calibration on the processor.
#pragma once

#include <memory>

#include "lib/base/threads.h"
#include "lib/exec/calibration.h"
#include "lib/exec/executor.h"

namespace qwb {

std::unique_ptr<const CalibrationOps> cpu_calibration(Products products, Threads threads);

// As the operations of these names, in the calling thread; the values of the rows follow each
// other.
void to_half_rows(const float* values, int64_t rows, int64_t columns, std::byte* halves,
                  float* scales);
void from_half_rows(const std::byte* halves, const float* scales, int64_t rows, int64_t columns,
                    float* values);

std::unique_ptr<MomentSums> cpu_moment_sums(Products products, Threads threads);
void subtract_means(float* m, std::span<const double> left, std::span<const double> right,
                    int64_t tokens, Threads threads);

}  // namespace qwb
