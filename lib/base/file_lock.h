// Advisory locks of files (flock, as huggingface_hub's). The kernel drops them when the process
// ends, however it ends. They only save work or delay a removal: nothing becomes wrong where they
// do not work.
#pragma once

#include <memory>
#include <utility>

#include "lib/base/file.h"

namespace qwb {

class FileLock {
 public:
  enum class Mode { shared, exclusive };
  enum class Missing { fail, create };  // what to do where there is no such file
  enum class Outcome {
    taken,
    busy,
    impossible,  // no such file, not writable where it must be made, no locks on this file system
  };
  // Does not wait. The lock is null if it is busy and was to be exclusive, or if the file could not
  // be opened; otherwise it holds the open file, locked or not. A created file stays, as does its
  // folder.
  static std::pair<std::shared_ptr<FileLock>, Outcome> take(const Path& file, Mode mode,
                                                            Missing missing = Missing::fail);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  // True if `file` is still the file that was locked (it was not replaced or removed meanwhile).
  bool still_at(const Path& file) const;
  // Sets the file's time to now.
  void touch() const;

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace qwb
