// Energy counters through perf_event_open(2): what they are read with and where they are found,
// apart from what is made of them, so that tests can put a reader and a folder of their own in
// place.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "lib/base/file.h"
#include "lib/evaluate/energy/options.h"

namespace qwb {

class PerfReader {
 public:
  virtual ~PerfReader() = default;
  // A counter of everything on a processor: a handle, or -errno.
  virtual int open(uint32_t type, uint64_t config, int processor) = 0;
  virtual std::optional<uint64_t> read(int handle) = 0;
  virtual void close(int handle) = 0;
};
std::shared_ptr<PerfReader> kernel_perf_reader();

}  // namespace qwb
