// What a run is said to take.
#include <gtest/gtest.h>

#include "lib/quantize/plan/estimate.h"

namespace qwb {
namespace {

TEST(Extrapolated, FindsBothTerms) {
  const auto square = [](double n) { return 3 * n + 5 * n * n; };
  const auto cube = [](double n) { return 7 * n + 0.25 * n * n * n; };
  for (const double times : {0.5, 1.0, 2.0, 7.0}) {
    EXPECT_NEAR(extrapolated(square(2), square(4), 2, times), square(4 * times), 1e-9);
    EXPECT_NEAR(extrapolated(cube(2), cube(4), 3, times), cube(4 * times), 1e-9);
  }
}

TEST(Extrapolated, NoTermIsNegative) {
  EXPECT_DOUBLE_EQ(extrapolated(0.9, 1, 2, 7), 7);   // less than twice: in proportion
  EXPECT_DOUBLE_EQ(extrapolated(0.1, 1, 2, 7), 49);  // more than four times: all of it quadratic
  EXPECT_DOUBLE_EQ(extrapolated(0, 1, 3, 2), 8);
  EXPECT_DOUBLE_EQ(extrapolated(1, 0, 3, 2), 0);
}

}  // namespace
}  // namespace qwb
