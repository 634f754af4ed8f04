// The list of the files that this program wrote into a folder of its own, by which the folder is
// known as ours and may be replaced: qwb.sums in an artifact, .qwb-files in a folder of another
// library's format. A line is XXH3-128 in hex, two spaces and the name of a file of this folder
// ("folder/name" for one within).
#pragma once

#include <map>
#include <string>

#include "lib/base/file.h"

namespace qwb {

inline constexpr char kArtifactSums[] = "qwb.sums";
inline constexpr char kWrittenFiles[] = ".qwb-files";

// The list of all regular files in `folder`, the two lists apart.
std::string written_files_text(const Path& folder);
// Name -> hash. Throws failed for what is no such list, and what read_text throws.
std::map<std::string, std::string> read_written_files(const Path& list);

// Why this folder is not to be removed: it has no list, or something that the list does not name,
// or a file that was changed since. Empty for a folder that is ours from end to end, and for an
// empty one. Every byte is read.
std::string own_folder_problem(const Path& folder);
// Throws usage with that reason.
void require_own_folder(const Path& folder);

}  // namespace qwb
