// Which commit of a repository a folder on this machine is, where that is known.
#pragma once

#include <optional>
#include <string>

#include "lib/base/file.h"

namespace qwb::hub {

// The commit (40 hex digits) of a model's folder, or of a file in one: of a snapshot in the cache
// that huggingface_hub shares, or of a folder that was filled by --local-dir, if the notes beside
// its configuration and all of its weights name one commit and none of these files was changed
// since. Nothing for any other folder. Asks nobody and never throws.
std::optional<std::string> commit_of(const Path& model) noexcept;

}  // namespace qwb::hub
