// The memory of one GPU. Work on it is done in the order of one queue, so that memory which was
// given back can be taken again at once: whatever still uses it comes before.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <string>

#include "lib/exec/cuda/library.h"
#include "lib/exec/devices.h"
#include "lib/tensor/device.h"

namespace qwb {

class CudaDevice final : public Device {
 public:
  // The GPU of that index, opened once. Throws what make_cuda_executor() does.
  static const CudaDevice& open(int index);

  // The GPU of that index among these; one that can be used.
  CudaDevice(const cuda::Functions& functions, const Gpus& all, int index);

  std::byte* take(int64_t bytes) const override;
  void give_back(std::byte* data) const noexcept override;

  // Held while work is put into the queue.
  std::unique_lock<std::recursive_mutex> lock() const { return std::unique_lock(mutex_); }
  const cuda::Functions& functions() const { return functions_; }
  cuda::Queue* queue() const { return queue_; }
  const Gpu& card() const { return card_; }
  // Throws what a code stands for.
  void check(int code, const char* during) const {
    if (code != 0) fail(code, during, 0);
  }

 private:
  [[noreturn]] void fail(int code, const char* during, int64_t asked) const;
  // Gives what is free back to the driver; false if nothing was.
  bool release_free() const;

  const cuda::Functions& functions_;
  Gpu card_;
  CudaFound found_;
  cuda::Queue* queue_ = nullptr;
  mutable std::recursive_mutex mutex_;
  mutable std::map<void*, int64_t> sizes_;      // of all
  mutable std::multimap<int64_t, void*> free_;  // by size
  mutable int64_t free_bytes_ = 0;
};

}  // namespace qwb
