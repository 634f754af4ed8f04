// A file that appears complete or not at all.
#pragma once

#include "lib/base/file.h"

namespace qwb {

// Whoever makes the file writes it at path(), a temporary name beside the target, then commit()
// gives it the target's. Removed if not committed.
class PendingFile {
 public:
  explicit PendingFile(const Path& target) : target_(target), path_(temporary_sibling(target)) {}
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;
  const Path& path() const { return path_; }
  // As place_file(). Once.
  void commit(bool replace);

 private:
  Path target_, path_;  // path_ empty: committed
};

}  // namespace qwb
