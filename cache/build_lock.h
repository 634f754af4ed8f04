// The right to build one object of the cache.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "lib/base/file_lock.h"

namespace qwb {

// A thread renews the lock file's time every second while it is held, so that other processes can
// distinguish a working process from one that hangs.
class BuildLock {
 public:
  // Does not wait. Null if another process holds it. Throws `failed` if the file cannot be created.
  static std::unique_ptr<BuildLock> try_take(const Path& file);
  // Removes the lock files of processes that died. Never throws.
  static void sweep(const Path& folder) noexcept;
  ~BuildLock();
  BuildLock(const BuildLock&) = delete;
  BuildLock& operator=(const BuildLock&) = delete;

 private:
  BuildLock(Path file, std::shared_ptr<FileLock> lock);
  void beat();

  Path file_;
  std::shared_ptr<FileLock> lock_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  std::thread heart_;
};

}  // namespace qwb
