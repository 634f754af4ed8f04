// The integer grids that the GPU's kernels make (lib/exec/cuda/rounding.h) are those of
// lib/exec/grid.h bit by bit. What is tested here runs on the processor; the kernels run the same
// functions.
#include "lib/exec/cuda/rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "lib/exec/grid.h"

namespace qwb {
namespace {

cuda::GridShape shape_of(const GridSettings& s) {
  const cuda::Number number = s.scale_dtype == DType::f16    ? cuda::Number::f16
                              : s.scale_dtype == DType::bf16 ? cuda::Number::bf16
                                                             : cuda::Number::f32;
  return {s.bits, s.symmetric ? 1 : 0, number, s.group_size};
}

TEST(CudaRounding, GridsAndCodesAreTheProcessors) {
  Rng rng(1);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    const GridSettings settings{2 + round % 7, 8, round / 7 % 2 == 0,
                                round % 3 == 0   ? DType::f16
                                : round % 3 == 1 ? DType::bf16
                                                 : DType::f32};
    const cuda::GridShape shape = shape_of(settings);
    // From subnormal scales to those that f16 cannot hold.
    const auto size = static_cast<float>(std::pow(10.0, 54 * rng.uniform() - 46));
    std::vector<float> values;
    float low = 0, high = 0;
    for (int i = 0; i < 8; ++i) {
      values.push_back(size * static_cast<float>(2 * rng.uniform() - (i < 4 ? 1 : 0.2)));
      if (round % 50 == 0) values.back() = 0;
      low = std::min(low, values.back()), high = std::max(high, values.back());
    }
    float exact = 0;
    const cuda::RowGrid made = cuda::grid_of_range(low, high, shape, &exact);
    Grid expected;
    try {
      expected = make_grid(low, high, settings, "a.module");
    } catch (const Error&) {
      ++refused;
      EXPECT_FALSE(made.fits);
      EXPECT_THROW(stored_scale(exact, settings.scale_dtype, "a.module"), Error);
      continue;
    }
    ASSERT_TRUE(made.fits);
    ASSERT_EQ(made.scale, expected.scale) << size;
    ASSERT_EQ(made.zero, static_cast<float>(expected.zero)) << size;
    std::vector<uint8_t> codes(values.size());
    round_to_grid(values.data(), 8, expected, settings.max_code(), codes.data());
    for (size_t i = 0; i < codes.size(); ++i) {
      const float step = cuda::rounded_step(values[i], made.scale, made.zero,
                                            static_cast<float>(cuda::max_code(shape)));
      ASSERT_EQ(static_cast<int>(step + made.zero), codes[i]) << values[i] << " " << made.scale;
    }
  }
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace qwb
