// The list of the files that this program wrote into a folder of its own, by which the folder is
// known as ours and may be replaced: qwb.sums in an artifact, .qwb-files in a folder of another
// library's format. A line is XXH3-128 in hex, two spaces and the name of a file of this folder
// ("folder/name" for one within).
#pragma once

#include <future>
#include <map>
#include <string>

#include "lib/base/context.h"
#include "lib/base/file.h"

namespace qwb {

inline constexpr char kArtifactSums[] = "qwb.sums";
inline constexpr char kWrittenFiles[] = ".qwb-files";

using FileHashes = std::map<std::string, std::string>;  // name -> hash

// Those of all regular files in `folder`, the two lists apart. What is `known` is not read again.
FileHashes hash_files(const Path& folder, const Context& context = {}, FileHashes known = {});
// Those of the files that are there now, on a thread beside the caller's.
std::future<FileHashes> hash_files_beside(const Path& folder, const Context& context);
std::string written_files_text(const FileHashes& files);
// Throws failed for what is no such list, and what read_text throws.
FileHashes read_written_files(const Path& list);

// Why this folder is not to be removed: it has no list, or something that the list does not name,
// or a file that was changed since. Empty for a folder that is ours from end to end, and for an
// empty one. Every byte is read.
std::string own_folder_problem(const Path& folder, const StopToken& stop = {});
// Throws usage with that reason.
void require_own_folder(const Path& folder, const StopToken& stop = {});

}  // namespace qwb
