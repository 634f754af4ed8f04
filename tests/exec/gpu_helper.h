// The GPU of this machine, for tests whose suites are named Gpu (ctest's label gpu). Without one
// they are skipped, with the reason.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "lib/base/error.h"
#include "lib/exec/devices.h"
#include "tests/exec/hosted_helper.h"

namespace qwb {

class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (gpu_ == nullptr && reason_.empty()) {
      try {
        gpu_ = make_cuda_executor(0, Threads());
      } catch (const Error& error) {
        reason_ = error.what();
      }
    }
    if (gpu_ == nullptr) GTEST_SKIP() << reason_;
  }
  static const std::shared_ptr<const Executor>& gpu() { return gpu_; }
  // On the host's memory.
  static HostedExecutor hosted() { return HostedExecutor(*gpu_); }

 private:
  static inline std::shared_ptr<const Executor> gpu_;
  static inline std::string reason_;
};

}  // namespace qwb
