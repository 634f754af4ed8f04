// The table of angles: positions times frequencies.
#include "lib/model/rotary.h"

#include <gtest/gtest.h>

#include <cmath>

namespace qwb {
namespace {

TEST(RotaryTable, HoldsCosinesAndSinesOfItsPositions) {
  const auto executor = make_executor(ExecutorKind::fast, Threads(1));
  const Rope rope = {.frequencies = {1, 0.25f, 0.001f}, .attention_factor = 1.5f};
  const RotaryTable table(*executor, rope, 5, 4);
  ASSERT_FALSE(table.empty());
  const std::vector<float> cosines = executor->download(table.cosine),
                           sines = executor->download(table.sine);
  ASSERT_EQ(cosines.size(), 12u);
  for (size_t t = 0; t < 4; ++t) {
    for (size_t k = 0; k < 3; ++k) {
      const double angle = static_cast<double>(5 + t) * static_cast<double>(rope.frequencies[k]);
      EXPECT_NEAR(cosines[3 * t + k], 1.5 * std::cos(angle), 1e-6) << t << " " << k;
      EXPECT_NEAR(sines[3 * t + k], 1.5 * std::sin(angle), 1e-6) << t << " " << k;
    }
  }
}

// Models were trained with angles that are products in f32.
TEST(RotaryTable, AnglesAreRoundedToF32) {
  const auto executor = make_executor(ExecutorKind::fast, Threads(1));
  const Rope rope = {.frequencies = {0.7f}};
  const int64_t position = 1000003;
  const RotaryTable table(*executor, rope, position, 1);
  const double angle = static_cast<double>(static_cast<float>(position) * 0.7f);
  EXPECT_EQ(executor->download(table.sine)[0], static_cast<float>(std::sin(angle)));
}

TEST(RotaryTable, IsEmptyWithoutFrequencies) {
  const auto executor = make_executor(ExecutorKind::fast, Threads(1));
  EXPECT_TRUE(RotaryTable(*executor, Rope{}, 0, 3).empty());
}

}  // namespace
}  // namespace qwb
