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
  const Rotation& all = table.of(7);
  ASSERT_FALSE(all.empty());
  const std::vector<float> cosines = executor->download(all.cosine),
                           sines = executor->download(all.sine);
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
  EXPECT_EQ(executor->download(table.of(0).sine)[0], static_cast<float>(std::sin(angle)));
}

TEST(RotaryTable, IsEmptyWithoutFrequencies) {
  const auto executor = make_executor(ExecutorKind::fast, Threads(1));
  const RotaryTable table(*executor, Rope{}, 0, 3);
  EXPECT_TRUE(table.of(0).empty());
}

// Gemma 3 has two, SmolLM3 layers without one.
TEST(RotaryTable, IsOneForEachKindOfLayer) {
  const auto executor = make_executor(ExecutorKind::fast, Threads(1));
  const Rope rope = {.frequencies = {0.5f},
                     .attention_factor = 2,
                     .local_frequencies = {0.25f},
                     .layers = {LayerRope::local, LayerRope::none, LayerRope::whole}};
  const RotaryTable table(*executor, rope, 3, 1);
  EXPECT_NEAR(executor->download(table.of(0).cosine)[0], std::cos(0.75), 1e-6);
  EXPECT_TRUE(table.of(1).empty());
  EXPECT_NEAR(executor->download(table.of(2).cosine)[0], 2 * std::cos(1.5), 1e-6);
}

}  // namespace
}  // namespace qwb
