// Where the unquantized models are that artifacts were made from: an artifact names a folder and
// the content hash of what was in it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/evaluate/subject.h"

namespace qwb {

class Originals {
 public:
  // Content hashes are kept in the memo folder, if it is not empty, and here.
  Originals(Path memo_folder, const Context& context);

  // Models that may be the original of an artifact whose own is not where it was.
  void consider(const std::vector<Path>& folders);
  // The folder that the artifact names, if it holds what the artifact was made from; else one that
  // is considered and does; else the former, if there is a model at all. Nothing: no original is
  // known.
  std::optional<Path> of(const Subject& subject);
  std::string content_hash(const OpenModel& open);

 private:
  bool holds(const Path& folder, const std::string& hash);

  Path memo_folder_;
  Context context_;
  std::vector<Path> considered_;
  std::map<Path, std::string> hashes_;  // by canonical folder; empty: it could not be read
};

}  // namespace qwb
