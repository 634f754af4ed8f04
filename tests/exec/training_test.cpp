// The processor's operations of training against the plain ones (near_helper.h argues 2e-5; the
// sums here have at most 300 terms), with the same bits for any number of threads, and the plain
// ones on memory that faults.
#include "lib/exec/training.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/exec/counter_bits.h"
#include "lib/exec/dynamic_map.h"
#include "tests/exec/executor_helper.h"
#include "tests/exec/near_helper.h"
#include "tests/exec/shadow_helper.h"
#include "tests/exec/weights_helper.h"

namespace qwb {
namespace {

// Operands of one operation on an executor, and what it wrote, in the order they were made.
class Bench {
 public:
  explicit Bench(const Executor& executor) : executor_(executor) {}
  const Executor& executor() const { return executor_; }
  const TrainingOps& ops() const { return executor_.training(); }
  In in(int64_t rows, int64_t columns, uint64_t seed, float size = 1) {
    return place(rows, columns, seed, size);
  }
  Out out(int64_t rows, int64_t columns, uint64_t seed) {
    written_.push_back(place(rows, columns, seed, 1));
    return written_.back();
  }
  std::vector<float> results() const {
    std::vector<float> all;
    for (const Out& out : written_) {
      // Every result has its own size of values: made equal, so that none hides behind another.
      std::vector<float> one = executor_.download(out);
      float largest = 1e-30f;
      for (const float value : one) largest = std::max(largest, std::abs(value));
      for (const float value : one) all.push_back(value / largest);
    }
    return all;
  }

 private:
  Out place(int64_t rows, int64_t columns, uint64_t seed, float size) {
    const std::vector<float> values = noise(rows * columns, seed, size);
    kept_.push_back(executor_.allocate(rows, columns));
    executor_.copy(In(values.data(), rows, columns), kept_.back());
    return kept_.back();
  }
  const Executor& executor_;
  std::vector<Matrix> kept_;
  std::vector<Out> written_;
};

// The operation by the plain loops on memory that faults, and by the processor.
template <class Operation>
void expect_plain(const Operation& operation, double tolerance = 2e-5) {
  const ShadowExecutor shadow(make_executor(ExecutorKind::reference, Threads(1)));
  const auto one = make_executor(ExecutorKind::fast, Threads(1)),
             three = make_executor(ExecutorKind::fast, Threads(3));
  Bench expected(shadow), actual(*one), again(*three);
  operation(expected);
  operation(actual);
  operation(again);
  expect_near(actual.results(), expected.results(), tolerance);
  EXPECT_EQ(actual.results(), again.results());
}

TEST(Training, ProductsWithFrozenWeights) {
  for (const std::string kind :
       {"dense-f32", "dense-bf16", "dense-f32-T", "dense-bf16-T", "grid4-asym-g7",
        "grid3-asym-act-g7", "int8", "nf4", "nf4-double-T", "fp4"}) {
    SCOPED_TRACE(kind);
    const RandomWeight made = random_weight(kind, 65, 131, 5);
    const Prepared weight(made.weight);
    expect_plain([&](Bench& b) {
      b.ops().linear_back(b.in(33, 65, 1), weight, b.out(33, 131, 2));
      b.ops().linear_back(b.in(3, 65, 3), weight, b.out(3, 131, 4), Accumulate::yes);
    });
  }
}

// bf16 operands: relative errors of 2^-9 each, averaged over 65 terms; 1e-2 of the largest.
TEST(Training, ProductsOfNarrowOperands) {
  for (const std::string kind : {"dense-bf16", "dense-f32-T", "nf4"}) {
    const RandomWeight made = random_weight(kind, 65, 131, 5);
    const Prepared weight(made.weight);
    Bench expected(reference_executor()), actual(bf16_executor());
    for (Bench* b : {&expected, &actual}) {
      b->ops().linear_back(b->in(33, 65, 1), weight, b->out(33, 131, 2));
      b->ops().linear_back(b->in(33, 65, 3), weight, b->out(33, 131, 4), Accumulate::yes);
    }
    expect_near(actual.results(), expected.results(), 1e-2);
  }
}

TEST(Training, LowRankProducts) {
  expect_plain([](Bench& b) {
    const In x = b.in(290, 37, 1), m = b.in(5, 37, 2), v = b.in(290, 5, 3);
    b.ops().multiply_transposed(x, m, 0.5f, b.out(290, 5, 4), Accumulate::yes);
    b.ops().multiply(v, m, 2, b.out(290, 37, 5));
    b.ops().add_outer(v, x, -1.5f, b.out(5, 37, 6));
  });
}

TEST(Training, Norms) {
  for (const int64_t columns : {5, 32, 131}) {
    expect_plain([&](Bench& b) {
      const In x = b.in(9, columns, 1), gain = b.in(1, columns, 2), dy = b.in(9, columns, 3);
      b.ops().rms_norm_back(x, gain, 1e-3, dy, b.out(9, columns, 4), Accumulate::no);
      b.ops().rms_norm_back(x, gain, 1e-3, dy, b.out(9, columns, 5), Accumulate::yes,
                            b.out(1, columns, 6));
      b.ops().layer_norm_back(x, gain, 1e-3, dy, b.out(9, columns, 7), Accumulate::no);
      b.ops().layer_norm_back(x, gain, 1e-3, dy, b.out(9, columns, 8), Accumulate::yes);
      const Out place = b.out(9, columns, 9);
      b.ops().layer_norm_back(x, gain, 1e-3, place, place, Accumulate::no);
    });
  }
}

TEST(Training, Attention) {
  const AttentionShape all{.heads = 6, .kv_heads = 2, .head_dim = 12, .scale = 0.6f};
  AttentionShape window = all, capped = all;
  window.window = 70;
  capped.soft_cap = 1.5f;
  for (const AttentionShape& shape : {all, window, capped}) {
    for (const int64_t tokens : {2, 5, 150}) {
      expect_plain(
          [&](Bench& b) {
            const In q = b.in(tokens, 72, 1, 2), k = b.in(tokens, 24, 2, 2),
                     v = b.in(tokens, 24, 3);
            const Out y = b.out(tokens, 72, 4), sums = b.out(tokens, 6, 5);
            b.ops().attention(q, k, v, shape, y, sums);
            b.ops().attention_back({q, k, v, y, sums}, shape, b.in(tokens, 72, 6),
                                   b.out(tokens, 72, 7), b.out(tokens, 24, 8),
                                   b.out(tokens, 24, 9));
          },
          5e-5);  // through exponentials of sums of some tens
    }
  }
}

TEST(Training, ForwardAttentionIsTheModels) {
  const AttentionShape shape{
      .heads = 6, .kv_heads = 2, .head_dim = 12, .window = 70, .scale = 0.6f};
  Bench b(fast_executor());
  const In q = b.in(150, 72, 1), k = b.in(150, 24, 2), v = b.in(150, 24, 3);
  const Out y = b.out(150, 72, 4), sums = b.out(150, 6, 5), other = b.out(150, 72, 6);
  b.ops().attention(q, k, v, shape, y, sums);
  fast_executor().attention(q, k, v, shape, other);
  expect_near(fast_executor().download(y), fast_executor().download(other), 1e-6);
}

TEST(Training, Activations) {
  for (const Activation activation : {Activation::silu, Activation::gelu_tanh, Activation::gelu_erf,
                                      Activation::quick_gelu, Activation::relu}) {
    expect_plain([&](Bench& b) {
      const In gate = b.in(7, 37, 1, 6), up = b.in(7, 37, 2), dy = b.in(7, 37, 3);
      b.ops().activate_back(activation, gate, up, dy, b.out(7, 37, 4), b.out(7, 37, 5));
      const Out place = b.out(7, 37, 6);
      b.ops().activate_back(activation, gate, In(), place, place, Out());
    });
  }
}

TEST(Training, Losses) {
  const RandomWeight head = random_weight("dense-bf16", 211, 24, 5);
  const Prepared weight(head.weight);
  for (const LogitShape& shape : {LogitShape{}, LogitShape{.scale = 0.4f, .cap = 3}}) {
    expect_plain([&](Bench& b) {
      std::vector<int32_t> targets;
      for (int i = 0; i < 40; ++i) targets.push_back(i * 37 % 211);
      const std::vector<float> factors = noise(40, 8);
      std::vector<double> losses(40), plain(40);
      const In x = b.in(40, 24, 1);
      b.ops().losses_back(x, weight, targets, factors, shape, losses, b.out(40, 24, 2));
      b.executor().losses(x, weight, targets, shape, plain);
      for (size_t i = 0; i < 40; ++i) EXPECT_NEAR(losses[i], plain[i], 1e-5);
    });
  }
}

TEST(Training, ALossThatIsNoNumberIsTold) {
  const RandomWeight head = random_weight("dense-f32", 11, 4, 5);
  const std::vector<float> x = {1, 2, 3, std::numeric_limits<float>::infinity()};
  std::vector<float> dx(4);
  std::vector<double> losses(1);
  fast_executor().training().losses_back(rows_of(x, 4), Prepared(head.weight), std::vector{3},
                                         std::vector{1.0f}, {}, losses, rows_of(dx, 4));
  EXPECT_TRUE(std::isnan(losses[0]));
}

TEST(Training, OptimizerSteps) {
  const AdamW step{.rate = 0.01, .eps = 1e-3, .decay = 0.1, .step = 3, .gradient_scale = 0.5};
  expect_plain([&](Bench& b) {
    const Out second = b.out(1, 999, 4);
    b.executor().fill(second, 0.25f);
    b.ops().adamw(b.out(1, 999, 1), b.in(1, 999, 2), b.out(1, 999, 3), second, step);
  });
}

// Codes may fall to either side of a boundary: 0.05 of a moment, through a step of 0.01.
TEST(Training, OptimizerStepsOfEightBits) {
  const AdamW step{.rate = 0.01, .eps = 1e-3, .step = 1};
  expect_plain(
      [&](Bench& b) {
        const Out values = b.out(1, 999, 1);
        std::vector<Matrix> moments;
        for (const int64_t size : {250, 250, 4, 4}) {
          moments.push_back(b.executor().allocate(1, size));
          b.executor().fill(moments.back(), 0);
        }
        const CodedMoments coded{moments[0], moments[1], moments[2], moments[3]};
        for (uint64_t i = 0; i < 4; ++i) {
          AdamW own = step;
          own.step = static_cast<int64_t>(i) + 1;
          b.ops().adamw(values, b.in(1, 999, 20 + i), coded, own);
        }
      },
      5e-4);
}

TEST(Training, DynamicMaps) {
  for (const bool with_signs : {true, false}) {
    const DynamicMap& map = dynamic_map(with_signs);
    EXPECT_TRUE(std::is_sorted(map.begin(), map.end()));
    EXPECT_EQ(std::adjacent_find(map.begin(), map.end()), map.end());
    EXPECT_EQ(map[255], 1);
    EXPECT_EQ(map[nearest_code(map, 0)], 0);
    for (int code = 0; code < 256; ++code) EXPECT_EQ(nearest_code(map, map[code]), code);
  }
  // bitsandbytes' create_dynamic_map(): its largest values below 1, and its smallest above 0.
  EXPECT_FLOAT_EQ(dynamic_map(true)[254], 0.99296875f);
  EXPECT_FLOAT_EQ(dynamic_map(false)[254], 0.996484375f);
  EXPECT_FLOAT_EQ(dynamic_map(true)[128], 5.5e-7f);
}

TEST(Training, DropOut) {
  const std::vector<uint64_t> keys = {7, 8, 7};
  expect_plain([&](Bench& b) { b.ops().drop_out(b.in(3, 131, 1), keys, 0.25, b.out(3, 131, 2)); });
  const std::vector<float> ones(3 * 20000, 1);
  std::vector<float> made(ones.size());
  fast_executor().training().drop_out(rows_of(ones, 20000), keys, 0.25, rows_of(made, 20000));
  const auto row = [&](int64_t r) {
    return std::vector<float>(made.begin() + r * 20000, made.begin() + (r + 1) * 20000);
  };
  EXPECT_EQ(row(0), row(2));
  EXPECT_NE(row(0), row(1));
  // 20000 draws: a standard deviation of 0.003 of the share.
  const auto dropped = static_cast<double>(std::count(made.begin(), made.begin() + 20000, 0.0f));
  EXPECT_NEAR(dropped / 20000, 0.25, 0.015);
}

TEST(Training, SumOfSquares) {
  const std::vector<float> x = noise(70 * 300, 2);
  const double expected = reference_executor().training().sum_of_squares(rows_of(x, 300));
  EXPECT_NEAR(fast_executor().training().sum_of_squares(rows_of(x, 300)), expected,
              1e-9 * expected);
  EXPECT_NEAR(expected, 7000, 200);  // a third of the values
}

}  // namespace
}  // namespace qwb
