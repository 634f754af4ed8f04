// Which model, artifact or demo file a tool works on when the command line leaves it open. Every
// guess is said on stderr.
#pragma once

#include <memory>
#include <string>

#include "cache/store.h"
#include "lib/base/context.h"
#include "lib/base/file.h"

namespace qwb {

// `flag` (--model), else $QWB_MODEL, else the demo llama; a name of the Hub is pulled. Throws
// not_found, with how to get a model, unless there is one (require_model_folder).
Path choose_model(const std::string& flag, const Context& context);

// A folder to work on, and while it comes from the cache the hold that keeps it there.
struct ChosenArtifact {
  Path folder;
  std::shared_ptr<const FileLock> lease;
};
// The newest artifact in the cache, else what choose_model({}) gives. Throws as choose_model does.
ChosenArtifact choose_artifact(const Context& context);

// A file or folder of the demo: "llama", "gpt2", "text/eval.txt", "text/calib.jsonl". Looked for in
// share/qwb/demo of the prefix that holds the executable, and in the source tree when the
// executable lies in its build folder. Throws not_found.
Path demo_path(const std::string& name);

// Throws not_found, saying what to do, unless `folder` looks like a model or an artifact, or is a
// file that holds one.
void require_model_folder(const Path& folder);

// Throws verification, naming the files, if an artifact's bytes are not what they were; every byte
// is read.
void require_undamaged(const Path& folder, const StopToken& stop = {});
// The same of a folder that may be no artifact, and then has no qwb.sums to tell.
void require_undamaged_if_summed(const Path& folder, const StopToken& stop = {});

}  // namespace qwb
