#include "cache/build_lock.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <vector>

namespace qwb {

std::unique_ptr<BuildLock> BuildLock::try_take(const Path& file) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    auto [lock, outcome] =
        FileLock::take(file, FileLock::Mode::exclusive, FileLock::Missing::create);
    if (outcome == FileLock::Outcome::busy) return nullptr;
    if (!lock) throw system_error("cannot create", file.string(), errno);
    // Its holder removed it between our open and our lock: the name is free again.
    if (outcome == FileLock::Outcome::taken && !lock->still_at(file)) continue;
    // Held, or locks do not work here and each process does its own work.
    return std::unique_ptr<BuildLock>(new BuildLock(file, std::move(lock)));
  }
  return nullptr;
}

void BuildLock::sweep(const Path& folder) noexcept {
  try {
    std::error_code error;
    std::vector<Path> files;
    for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
         it.increment(error))
      files.push_back(it->path());
    for (const Path& file : files) try_take(file);  // taken and let go: its name goes too
  } catch (const std::exception&) {                 // cleaning is a courtesy
    return;
  }
}

BuildLock::BuildLock(Path file, std::shared_ptr<FileLock> lock)
    : file_(std::move(file)), lock_(std::move(lock)), heart_([this] { beat(); }) {}

BuildLock::~BuildLock() {
  {
    const std::lock_guard guard(mutex_);
    done_ = true;
  }
  wake_.notify_all();
  heart_.join();
  // While still locked: whoever waits for it notices and takes a new one.
  if (lock_->still_at(file_)) ::unlink(file_.c_str());
}

void BuildLock::beat() {
  std::unique_lock guard(mutex_);
  while (!done_) {
    lock_->touch();
    wake_.wait_for(guard, std::chrono::seconds(1));
  }
}

}  // namespace qwb
