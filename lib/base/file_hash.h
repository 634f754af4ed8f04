// The content hash of a whole file.
#pragma once

#include <string>

#include "lib/base/file.h"

namespace qwb {

// XXH3-128 (hex) of the file's bytes, read piece by piece so that it does not stay resident. Throws
// what MappedFile::open throws; interrupted.
std::string file_hash(const Path& path);

// The same for a file that this process has just written and asks for several times: read once as
// long as size, times and inode stay. Not for telling damage, which touches none of these.
std::string written_file_hash(const Path& path);

}  // namespace qwb
