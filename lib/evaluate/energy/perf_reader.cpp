#include "lib/evaluate/energy/perf_reader.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace qwb {
namespace {

class KernelReader : public PerfReader {
 public:
  int open(uint32_t type, uint64_t config, int processor) override {
    perf_event_attr attributes{};
    attributes.size = sizeof(attributes);
    attributes.type = type;
    attributes.config = config;
    const long fd =
        syscall(SYS_perf_event_open, &attributes, -1, processor, -1, PERF_FLAG_FD_CLOEXEC);
    return fd < 0 ? -errno : static_cast<int>(fd);
  }
  std::optional<uint64_t> read(int handle) override {
    uint64_t value = 0;
    return ::read(handle, &value, sizeof(value)) == sizeof(value) ? std::optional(value)
                                                                  : std::nullopt;
  }
  void close(int handle) override { ::close(handle); }
};

}  // namespace

std::shared_ptr<PerfReader> kernel_perf_reader() {
  return std::make_shared<KernelReader>();
}

}  // namespace qwb
