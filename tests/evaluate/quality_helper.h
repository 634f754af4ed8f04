// What the tests of quality measurements share.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/evaluate/keeper.h"

namespace qwb::testing {

// A journal in memory: `before` was finished by an earlier run, `added` by this one.
struct MemoryJournal : WorkJournal {
  std::vector<std::vector<double>> before, added;
  const std::vector<std::vector<double>>& finished() const override { return before; }
  void add(std::span<const double> numbers) override {
    added.emplace_back(numbers.begin(), numbers.end());
  }
  void remove() override { before.clear(); }
};

// The text of the error that `work` throws, which must be of this kind.
inline std::string message_of(const std::function<void()>& work, ErrorKind kind) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace qwb::testing
