#include "cache/lease.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <vector>

namespace qwb {
namespace {

// The descriptor still belongs to the file of that name.
bool same_file(int fd, const Path& path) {
  struct stat held {};
  struct stat named {};
  return ::fstat(fd, &held) == 0 && ::stat(path.c_str(), &named) == 0 &&
         held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

bool lock_now(int fd, int operation) {
  int status = 0;
  do status = ::flock(fd, operation | LOCK_NB);
  while (status != 0 && errno == EINTR);
  return status == 0;
}

}  // namespace

std::pair<std::shared_ptr<Lease>, Lease::Outcome> Lease::take(const Path& file, Mode mode) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {nullptr, Outcome::impossible};
  auto lease = std::shared_ptr<Lease>(new Lease(fd));
  if (lock_now(fd, mode == Mode::shared ? LOCK_SH : LOCK_EX))
    return {std::move(lease), Outcome::taken};
  if (errno == EWOULDBLOCK)
    return {mode == Mode::shared ? std::move(lease) : nullptr, Outcome::busy};
  return {std::move(lease), Outcome::impossible};
}

Lease::~Lease() {
  ::close(fd_);
}

bool Lease::still_at(const Path& file) const {
  return same_file(fd_, file);
}

std::unique_ptr<BuildLock> BuildLock::try_take(const Path& file) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) throw system_error("cannot create", file.string(), errno);
    if (!lock_now(fd, LOCK_EX)) {
      const bool busy = errno == EWOULDBLOCK;
      if (busy) {
        ::close(fd);
        return nullptr;
      }
    } else if (!same_file(fd,
                          file)) {  // its holder removed it between our open and our lock: the name
                                    // is free again
      ::close(fd);
      continue;
    }
    return std::unique_ptr<BuildLock>(
        new BuildLock(file, fd));  // held, or locks do not work here and each does its own work
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

BuildLock::BuildLock(Path file, int fd)
    : file_(std::move(file)), fd_(fd), heart_([this] { beat(); }) {}

BuildLock::~BuildLock() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  wake_.notify_all();
  heart_.join();
  if (same_file(fd_, file_))
    ::unlink(
        file_.c_str());  // while still locked: whoever waits for it notices and takes a new one
  ::close(fd_);
}

void BuildLock::beat() {
  std::unique_lock lock(mutex_);
  while (!done_) {
    ::futimens(fd_, nullptr);
    wake_.wait_for(lock, std::chrono::seconds(1));
  }
}

}  // namespace qwb
