// Values of any plain type in a GPU's memory, for the host side of operations.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "lib/exec/cuda/calibration_interface.h"
#include "lib/exec/cuda/executor.h"

namespace qwb {

template <class T>
class OnGpu {
 public:
  // Uninitialised.
  OnGpu(const CudaExecutor& executor, int64_t count)
      : executor_(&executor),
        count_(count),
        memory_(executor.allocate(1, ceil_div(std::max<int64_t>(count, 1) * int64_t{sizeof(T)}, 4),
                                  MemoryKind::scratch)) {}
  OnGpu(const CudaExecutor& executor, std::span<const T> values)
      : OnGpu(executor, std::ssize(values)) {
    executor.run("copying to the GPU", executor.functions().upload, values.data(), data(),
                 std::ssize(values) * int64_t{sizeof(T)});
  }
  T* data() const { return reinterpret_cast<T*>(memory_.view().data); }
  int64_t size() const { return count_; }
  void clear() const { executor_->fill(memory_, 0); }
  void download(T* host) const { download(host, 0, count_); }
  void download(T* host, int64_t first, int64_t count) const {
    if (count == 0) return;
    executor_->run("copying from the GPU", executor_->functions().calibration->download,
                   data() + first, host, count * int64_t{sizeof(T)});
  }
  std::vector<T> download() const {
    std::vector<T> host(static_cast<size_t>(count_));
    download(host.data());
    return host;
  }

 private:
  const CudaExecutor* executor_;
  int64_t count_;
  Matrix memory_;
};

}  // namespace qwb
