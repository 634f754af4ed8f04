// Advisory locks. They only save work or delay a removal; nothing becomes wrong where they do not
// work.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "lib/base/file.h"

namespace qwb {

// A shared or exclusive flock on an open file. The kernel drops it when the process dies.
class Lease {
 public:
  enum class Mode { shared, exclusive };
  enum class Outcome {
    taken,
    busy,
    impossible
  };  // impossible: no such file, or a file system without locks
  // Does not wait.
  static std::pair<std::shared_ptr<Lease>, Outcome> take(const Path& file, Mode mode);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  // True if `file` is still the file that was locked (it was not replaced or removed meanwhile).
  bool still_at(const Path& file) const;

 private:
  explicit Lease(int fd) : fd_(fd) {}
  int fd_;
};

// The right to build one object. A thread renews the lock file's time every second while it is
// held, so that other processes can distinguish a working process from one that hangs.
class BuildLock {
 public:
  // Does not wait. Nothing if another process holds it.
  static std::unique_ptr<BuildLock> try_take(const Path& file);
  // Removes the lock files of processes that died. Never throws.
  static void sweep(const Path& folder) noexcept;
  ~BuildLock();
  BuildLock(const BuildLock&) = delete;
  BuildLock& operator=(const BuildLock&) = delete;

 private:
  BuildLock(Path file, int fd);
  void beat();

  Path file_;
  int fd_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  std::thread heart_;
};

}  // namespace qwb
