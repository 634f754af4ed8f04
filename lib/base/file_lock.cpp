#include "lib/base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace qwb {
namespace {

int open_for_lock(const Path& file, FileLock::Missing missing) {
  if (missing == FileLock::Missing::fail) return ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  std::error_code ignored;
  std::filesystem::create_directories(file.parent_path(), ignored);
  return ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
}

}  // namespace

std::pair<std::shared_ptr<FileLock>, FileLock::Outcome> FileLock::take(const Path& file, Mode mode,
                                                                       Missing missing) {
  const int fd = open_for_lock(file, missing);
  if (fd < 0) return {nullptr, Outcome::impossible};
  auto lock = std::shared_ptr<FileLock>(new FileLock(fd));
  const int operation = (mode == Mode::shared ? LOCK_SH : LOCK_EX) | LOCK_NB;
  int status = 0;
  do status = ::flock(fd, operation);
  while (status != 0 && errno == EINTR);
  if (status == 0) return {std::move(lock), Outcome::taken};
  if (errno != EWOULDBLOCK) return {std::move(lock), Outcome::impossible};
  return {mode == Mode::shared ? std::move(lock) : nullptr, Outcome::busy};
}

FileLock::~FileLock() {
  ::close(fd_);
}

bool FileLock::still_at(const Path& file) const {
  struct stat held {};
  struct stat named {};
  return ::fstat(fd_, &held) == 0 && ::stat(file.c_str(), &named) == 0 &&
         held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

void FileLock::touch() const {
  ::futimens(fd_, nullptr);
}

}  // namespace qwb
