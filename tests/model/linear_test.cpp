// Norms against the textbook, and what is found in a checkpoint or refused.
#include "lib/model/linear.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/error.h"
#include "tests/model/parts_helper.h"

namespace qwb {
namespace {

constexpr int64_t kNormRows = 3, kNormSize = 40;

TEST(Norm, IsTheTextbooks) {
  RandomWeights weights(1);
  const ModelConfig config = {.norm_eps = 0.1};  // large enough to be seen
  const std::vector<float> x = random_floats(2, kNormRows * kNormSize);
  for (const NormSpec& spec :
       {weights.norm("rms", kNormSize), weights.norm("gemma", kNormSize, false, 1),
        weights.norm("layer", kNormSize, true)}) {
    for (const auto& executor : both_executors()) {
      const Norm norm(spec, kNormSize, weights, *executor);
      std::vector<float> y = x;
      const Out out(y.data(), kNormRows, kNormSize);
      norm.apply({config, *executor, 0}, out, out);
      for (int64_t r = 0; r < kNormRows; ++r)
        expect_row_near(y, r, weights.normed(spec, row_of(x, r, kNormSize), 0.1));
    }
  }
}

TEST(Norm, GoesOnWithOtherValuesOfItsSize) {
  RandomWeights weights(1);
  const auto executor = make_executor(ExecutorKind::fast, Threads(1));
  const NormSpec spec = weights.norm("gemma", 4, false, 1);
  Norm norm(spec, 4, weights, *executor);
  norm.set(*executor, {0, 1, 2, 3}, {});
  EXPECT_EQ(executor->download(norm.gain.view()), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_THROW(norm.set(*executor, {0, 1, 2}, {}), Error);
  EXPECT_THROW(norm.set(*executor, {0, 1, 2, 3}, {0, 0, 0, 0}), Error);
}

ErrorKind kind_of_refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "was not refused";
  return ErrorKind::usage;
}

TEST(Linear, FindsItsTensorsOrSaysWhatIsWrong) {
  RandomWeights weights(1);
  const auto executor = make_executor(ExecutorKind::fast, Threads(1));
  LinearSpec spec = weights.linear("l", 3, 5, true);
  const Linear linear(spec, weights, *executor);
  EXPECT_EQ(linear.bias.size(), 3);
  const auto refused = [&] { return kind_of_refusal([&] { Linear(spec, weights, *executor); }); };
  spec.in = 4;
  EXPECT_EQ(refused(), ErrorKind::failed);
  spec = {"absent", 3, 5};
  EXPECT_EQ(refused(), ErrorKind::not_found);
  spec = weights.linear("plain", 3, 5);
  spec.bias = true;
  EXPECT_EQ(refused(), ErrorKind::not_found);
  spec = weights.linear("l", 3, 5, true);
  weights.values("l.bias")[1] = std::nanf("");
  EXPECT_EQ(refused(), ErrorKind::failed);
  EXPECT_EQ(kind_of_refusal([&] { find_vector(weights, "plain.weight", 15); }), ErrorKind::failed);
}

}  // namespace
}  // namespace qwb
