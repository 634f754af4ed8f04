// The state of a file, compared without reading it: size, times, inode.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>

#include "lib/base/file.h"

namespace qwb {

struct FileState {
  int64_t device = 0;
  int64_t inode = 0;
  int64_t size = 0;
  int64_t modified_ns = 0;  // content, since 1970
  int64_t changed_ns = 0;   // content or inode
  // NOLINTNEXTLINE(modernize-use-nullptr): the 0 that is found is the compiler's
  auto operator<=>(const FileState&) const = default;

  int64_t latest_ns() const { return std::max(modified_ns, changed_ns); }
};

// Throws as system_error() says.
FileState file_state(const Path& path);

// Nanoseconds since 1970.
int64_t now_ns();

}  // namespace qwb
