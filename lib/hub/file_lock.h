// An advisory lock that the kernel lets go of when its process ends, however it ends (flock, as
// huggingface_hub's). It saves work; correctness does not depend on it.
#pragma once

#include <optional>

#include "lib/base/file.h"

namespace qwb {

class FileLock {
 public:
  enum class Result {
    taken,
    busy,
    impossible
  };  // impossible: a file system without locks, a folder not writable
  FileLock() = default;
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock();
  // Creates the file and its folder if need be; the file stays. Does not wait.
  Result try_take(const Path& path);

 private:
  int fd_ = -1;
};

}  // namespace qwb
