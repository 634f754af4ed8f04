// What the GPU's executor for calibration rounds to bf16 besides the operands of products
// (gpu_calibration_test.cpp): attention, and weights that it keeps.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "tests/exec/gpu_calibration_helper.h"
#include "tests/exec/near_helper.h"
#include "tests/exec/weights_helper.h"

namespace qwb {
namespace {

class GpuRounding : public GpuCalibration {
 protected:
  void SetUp() override {
    GpuCalibration::SetUp();
    if (gpu() != nullptr && rounding().products() != Products::bf16)
      GTEST_SKIP() << "this GPU does not round to bf16";
  }
};

struct AttentionCase {
  int64_t heads, kv_heads, head_dim;
  bool rounded;  // else it is computed as it is outside of calibration
};

TEST_F(GpuRounding, AttentionIsNearTheProcessors) {
  const HostedExecutor there(rounding());
  for (const auto& [heads, kv_heads, dim, rounded] :
       {AttentionCase{4, 2, 64, true}, {2, 1, 128, true}, {3, 3, 40, true}, {2, 2, 10, false}}) {
    for (const int64_t tokens : {9, 66, 150}) {
      for (const int64_t past : {0, 70}) {
        for (const int64_t window : {0, 9, 100}) {
          SCOPED_TRACE(testing::Message() << dim << " " << tokens << " " << past << " " << window);
          const AttentionShape shape{.heads = heads,
                                     .kv_heads = kv_heads,
                                     .head_dim = dim,
                                     .window = window,
                                     .scale = 1 / std::sqrt(static_cast<float>(dim)),
                                     .soft_cap = window == 9 ? 2.5f : 0.0f};
          const int64_t wide = heads * dim, narrow = kv_heads * dim;
          const auto q = noise(tokens * wide, 41, 2), k = noise((past + tokens) * narrow, 42, 2),
                     v = noise((past + tokens) * narrow, 43);
          std::vector<float> exact(q.size()), made(q.size());
          const In queries = rows_of(q, wide), keys = rows_of(k, narrow),
                   values = rows_of(v, narrow);
          fast_executor().attention(queries, keys, values, shape, rows_of(exact, wide));
          there.attention(queries, keys, values, shape, rows_of(made, wide));
          expect_near(made, exact, rounded ? 1e-2 : 2e-5);
          double furthest = 0;
          for (size_t i = 0; i < made.size(); ++i)
            furthest = std::max(furthest, static_cast<double>(std::abs(made[i] - exact[i])));
          EXPECT_EQ(furthest > 1e-4, rounded);
        }
      }
    }
  }
}

// The last rows have the same bits with fewer queries before them.
TEST_F(GpuRounding, QueriesDoNotMeet) {
  const HostedExecutor there(rounding());
  const int64_t tokens = 200, some = 75, dim = 64;
  const AttentionShape shape{.heads = 1, .kv_heads = 1, .head_dim = dim, .window = 70, .scale = 1};
  const auto q = noise(tokens * dim, 1), k = noise(tokens * dim, 2), v = noise(tokens * dim, 3);
  std::vector<float> all(q.size()), last(static_cast<size_t>(some * dim));
  there.attention(rows_of(q, dim), rows_of(k, dim), rows_of(v, dim), shape, rows_of(all, dim));
  there.attention(rows_of(q, dim).row_range(tokens - some, some), rows_of(k, dim), rows_of(v, dim),
                  shape, rows_of(last, dim));
  EXPECT_TRUE(std::equal(last.begin(), last.end(), all.end() - some * dim));
}

TEST_F(GpuRounding, KeptWeightsHaveTheBitsOfStoredOnes) {
  const HostedExecutor there(rounding());
  for (const std::string kind : {"grid4-asym", "nf4", "dense-f16", "dense-f32-T"}) {
    SCOPED_TRACE(kind);
    const int64_t rows = 70, out = 130, in = 128;
    const auto x = noise(rows * in, 3);
    std::vector<float> stored(static_cast<size_t>(rows * out)), kept(stored.size());
    std::optional<Prepared> own;
    {
      const RandomWeight weight = random_weight(kind, out, in, 5);
      there.linear(rows_of(x, in), {rounding().prepare(weight.weight)}, rows_of(stored, out),
                   Accumulate::no);
      own = rounding().prepare_rounded(weight.weight);
    }
    ASSERT_TRUE(own.has_value());
    there.linear(rows_of(x, in), {*own}, rows_of(kept, out), Accumulate::no);
    EXPECT_EQ(kept, stored);
  }
  EXPECT_FALSE(gpu()->prepare_rounded(random_weight("nf4", 8, 64, 5).weight).has_value());
}

}  // namespace
}  // namespace qwb
