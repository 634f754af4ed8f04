// What qwb-merge makes: a model that adapters have become part of, or one adapter. Both print the
// place of what they made and return the exit code.
#pragma once

#include "lib/base/file.h"
#include "tools/common/tool.h"
#include "tools/merge/options.h"

namespace qwb {

// 6: the merge is further from the base with its adapters than --max-kl.
int make_merged_model(const MergeOptions& options, const Path& model, Tool& tool);
int make_adapter(const MergeOptions& options, const Path& model, Tool& tool);

}  // namespace qwb
