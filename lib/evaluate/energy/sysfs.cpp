#include "lib/evaluate/energy/sysfs.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "lib/base/error.h"

namespace qwb {

std::pair<std::string, int> read_sysfs_line(const Path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {"", errno};
  std::array<char, 256> buffer{};
  const ssize_t count = ::read(fd, buffer.data(), buffer.size());
  const int error = count < 0 ? errno : 0;
  ::close(fd);
  std::string text(buffer.data(), static_cast<size_t>(std::max<ssize_t>(count, 0)));
  return {text.substr(0, text.find('\n')), error};
}

std::optional<uint64_t> parse_count(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::string processor_name(const Path& cpuinfo) {
  try {
    const std::string text = read_text(cpuinfo);
    const size_t key = text.find("model name");
    const size_t colon = key == std::string::npos ? key : text.find(": ", key);
    if (colon != std::string::npos)
      return text.substr(colon + 2, text.find('\n', colon) - colon - 2);
  } catch (const Error&) {
    return "unknown processor";
  }
  return "unknown processor";
}

// With SGX the processor blurs RAPL on purpose (energy filtering), by up to tens of percent.
std::string sgx_remark(const Path& cpuinfo) {
  try {
    const std::string text = read_text(cpuinfo);
    const size_t flags = text.find("\nflags");
    const bool there =
        flags != std::string::npos &&
        (text.substr(flags + 1, text.find('\n', flags + 1) - flags - 1) + " ").find(" sgx ") !=
            std::string::npos;
    return there ? "SGX is present: the counter may be filtered" : "";
  } catch (const Error&) {
    return {};
  }
}

}  // namespace qwb
