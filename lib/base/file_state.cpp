#include "lib/base/file_state.h"

#include <sys/stat.h>

#include <cerrno>
#include <chrono>

#include "lib/base/error.h"

namespace qwb {
namespace {

int64_t nanoseconds(const timespec& time) {
  return static_cast<int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

FileState file_state(const Path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw system_error("cannot stat", path.string(), errno);
  return {static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino),
          static_cast<int64_t>(status.st_size), nanoseconds(status.st_mtim),
          nanoseconds(status.st_ctim)};
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace qwb
