// Which files of a repository are wanted.
#pragma once

#include <string>
#include <vector>

#include "lib/hub/names.h"

namespace qwb::hub {

struct Selection {
  // Shell patterns as huggingface_hub reads them: '*' matches '/' too, a final '/' means all below.
  // Without any `include`: by default (see default_files).
  std::vector<std::string> include, exclude;

  std::vector<RemoteFile> apply(RepoKind kind, const std::vector<RemoteFile>& files) const;
  std::vector<std::string> apply(RepoKind kind, const std::vector<std::string>& paths) const;
};

// The files that the tools need. Of a model: configurations, tokenizer, chat templates and
// safetensors at the top of the repository (model.safetensors, else the shards of its index, else
// all but consolidated*.safetensors), without any pytorch_model.bin or the shards of its index;
// never .pth, .onnx, .gguf, original/. Of a data set: all but pictures, scripts and git's own
// files.
std::vector<std::string> default_files(RepoKind kind, const std::vector<std::string>& paths);

// Weights in a model's repository that the tools cannot read, or do not pull by default; empty if
// there are none.
struct OtherWeights {
  std::string what, advice;
  std::vector<std::string> files;
  bool pulled_by_name = false;  // the advice goes on after the command that pulls the first file
};
OtherWeights other_weights(const std::vector<std::string>& paths);

bool matches(const std::string& pattern, const std::string& path);
bool has_wildcard(const std::string& pattern);

// Files that loaders look for and may do without: their absence is worth remembering (.no_exist).
const std::vector<std::string>& optional_model_files();

}  // namespace qwb::hub
