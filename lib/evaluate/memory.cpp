#include "lib/evaluate/memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <string>

#include "lib/base/error.h"

namespace qwb {
namespace {

// "VmHWM:\t   12345 kB"
int64_t kilobytes(const std::string& text, const std::string& key, const std::string& where) {
  const size_t line = text.find("\n" + key + ":");
  const size_t digits =
      line == std::string::npos ? line : text.find_first_of("0123456789\n", line + key.size() + 2);
  int64_t value = 0;
  if (digits != std::string::npos) {
    const auto [end, error] =
        std::from_chars(text.data() + digits, text.data() + text.size(), value);
    if (error == std::errc() &&
        text.compare(static_cast<size_t>(end - text.data()), 3, " kB") == 0) {
      return checked_mul(value, 1024, where);
    }
  }
  throw Error(ErrorKind::failed, "no line \"" + key + ": N kB\"", where);
}

}  // namespace

MemoryUse memory_use(const Path& status) {
  const std::string text = "\n" + read_text(status);
  const std::string where = status.string();
  return {kilobytes(text, "VmHWM", where), kilobytes(text, "VmRSS", where),
          kilobytes(text, "RssAnon", where), kilobytes(text, "RssFile", where)};
}

bool reset_memory_peak(const Path& clear_refs) {
  const int fd = ::open(clear_refs.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool done = ::write(fd, "5", 1) == 1;
  ::close(fd);
  return done;
}

}  // namespace qwb
