// Small files that hold a word or a number.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "lib/base/file.h"

namespace qwb {

// The first line of a small file, or errno.
std::pair<std::string, int> read_sysfs_line(const Path& path);
// The whole text as an unsigned number, decimal.
std::optional<uint64_t> parse_count(const std::string& text);
// The processor's model as cpuinfo calls it, or "unknown processor".
std::string processor_name(const Path& cpuinfo = "/proc/cpuinfo");
// "SGX is present ..." if this processor blurs its energy counters on purpose, else empty.
std::string sgx_remark(const Path& cpuinfo);

}  // namespace qwb
