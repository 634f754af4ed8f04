// An operation is one line in executor.h and one file: its plain body runs on every device, where
// nothing but copies touches the device's memory.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/exec/shadow_helper.h"

namespace qwb {
namespace {

TEST(PlainOperation, RunsOnMemoryThatFaults) {
  constexpr int64_t kRows = 3, kColumns = 37;
  constexpr float kCap = 2.5f;
  std::vector<float> values(kRows * kColumns);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.3f - 15.0f;
  const ShadowExecutor shadow(make_executor(ExecutorKind::fast, Threads(2)));
  // A part of a row, so that rows lie apart.
  const Matrix whole = shadow.allocate(kRows, kColumns + 5);
  shadow.fill(whole, 7);
  const Out part = Out(whole).column_range(2, kColumns);
  shadow.copy(In(values.data(), kRows, kColumns), part);
  shadow.Executor::soft_cap(part, kCap);
  const std::vector<float> found = shadow.download(part);
  for (size_t i = 0; i < values.size(); ++i)
    EXPECT_NEAR(found[i], kCap * std::tanh(values[i] / kCap), 1e-6) << i;
  const std::vector<float> edge = shadow.download(In(whole).column_range(0, 2));
  for (const float value : edge) EXPECT_EQ(value, 7);
}

}  // namespace
}  // namespace qwb
