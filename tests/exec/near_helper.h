// Comparing with the reference.
// Tolerances: sums of n terms of size 1 in f32, in lanes or tiles, err by at most about n^0.5 *
// 2^-24 of the sum of magnitudes: for n <= 300 below 2e-6; 2e-5 relative to the largest output
// leaves ten times that and still catches one wrong element in 300 (3e-3).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace qwb {

inline void expect_near(const std::vector<float>& actual, const std::vector<float>& expected,
                        double tolerance = 2e-5) {
  ASSERT_EQ(actual.size(), expected.size());
  double largest = 1e-30;
  for (const float value : expected)
    largest = std::max(largest, static_cast<double>(std::abs(value)));
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], tolerance * largest) << "at " << i;
}

}  // namespace qwb
