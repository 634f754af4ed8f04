#include "lib/tensor/tensor.h"

#include <gtest/gtest.h>

#include "lib/base/error.h"

namespace qwb {
namespace {

TEST(Shapes, OverflowIsAnErrorThatNamesThePlace) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({3, 0, 5}), 0);
  EXPECT_THROW(element_count({int64_t{1} << 40, int64_t{1} << 40}, "here"), Error);
  EXPECT_THROW(element_count({-1, 4}), Error);
}

}  // namespace
}  // namespace qwb
