// PendingFolder (file.h): appears complete or not at all, and never replaces what is not ours.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/written_files.h"

namespace qwb {
namespace fs = std::filesystem;

PendingFolder::PendingFolder(const Path& target, StopToken stop)
    : target_(target.has_filename() ? target : target.parent_path()),
      path_(temporary_sibling(target_)),
      stop_(std::move(stop)) {
  std::error_code error;
  if (target_.has_parent_path()) fs::create_directories(target_.parent_path(), error);
  if (!error) fs::create_directory(path_, error);
  if (error) throw system_error("cannot create folder", path_.string(), error.value());
}

PendingFolder::~PendingFolder() {
  remove_tree(path_);
}

namespace {

void sync_file(const Path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw system_error("cannot open", path.string(), errno);
  const int status = ::fsync(file), reason = errno;
  ::close(file);
  if (status != 0 && reason != EINVAL && reason != ENOTSUP)
    throw system_error("cannot flush to disk", path.string(), reason);
}

int exchange(const Path& a, const Path& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
}

}  // namespace

bool PendingFolder::commit(bool replace) {
  for (const auto& entry : fs::recursive_directory_iterator(path_)) {
    if (entry.is_directory()) {
      sync_folder(entry.path());
    } else if (entry.is_regular_file()) {
      sync_file(entry.path());
    }
  }
  sync_folder(path_);
  bool renamed = ::rename(path_.c_str(), target_.c_str()) == 0;
  const int reason = errno;
  if (!renamed && (reason == EEXIST || reason == ENOTEMPTY || reason == ENOTDIR)) {
    if (!replace) return false;
    require_own_folder(target_, stop_);
    renamed = take_the_place();
    if (!renamed) return false;  // another process put its own result there meanwhile
  }
  if (!renamed) throw system_error("cannot rename to", target_.string(), reason);
  sync_folder(target_.parent_path().empty() ? Path(".") : target_.parent_path());
  return true;
}

// The old folder is checked once more under its new, private name, where no other process adds to
// it.
bool PendingFolder::take_the_place() {
  if (exchange(path_, target_) == 0) {
    if (own_folder_problem(path_, stop_).empty()) {
      remove_tree(path_);
      return true;
    }
    exchange(path_, target_);
    require_own_folder(target_, stop_);
    return false;
  }
  if (errno != EINVAL && errno != ENOSYS && errno != ENOENT)
    throw system_error("cannot take the place of", target_.string(), errno);
  const Path old = temporary_sibling(target_);  // a file system that cannot exchange
  if (::rename(target_.c_str(), old.c_str()) != 0 && errno != ENOENT)
    throw system_error("cannot move away", target_.string(), errno);
  if (!own_folder_problem(old, stop_).empty()) {
    ::rename(old.c_str(), target_.c_str());
    require_own_folder(target_, stop_);
  }
  const bool renamed = ::rename(path_.c_str(), target_.c_str()) == 0;
  remove_tree(old);
  return renamed;
}

}  // namespace qwb
