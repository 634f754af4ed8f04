// Where numbers lie. What lies in a device's memory is touched by the operations of its executor
// (lib/exec/executor.h) and by nothing else.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qwb {

// Memory of one kind. Lives as long as the program: views and buffers keep its address. A null
// pointer to a device stands for the memory of the process itself.
class Device {
 public:
  virtual ~Device() = default;
  // `bytes` > 0 of them, aligned to 64, not initialised. Throws Error or std::bad_alloc.
  virtual std::byte* take(int64_t bytes) const = 0;
  virtual void give_back(std::byte* data) const noexcept = 0;
};

}  // namespace qwb
