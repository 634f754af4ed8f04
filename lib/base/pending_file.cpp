#include "lib/base/pending_file.h"

#include <unistd.h>

namespace qwb {

PendingFile::~PendingFile() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

void PendingFile::commit(bool replace) {
  place_file(path_, target_, replace);
  path_.clear();
}

}  // namespace qwb
