// The folder of --local-dir.
#pragma once

#include <string>
#include <utility>

#include "lib/base/file.h"
#include "lib/base/stop.h"
#include "lib/hub/names.h"

namespace qwb::hub {

// The files of --local-dir: huggingface_hub's notes beside them
// (.cache/huggingface/download/PATH.metadata: commit, etag and time, a line each) identify their
// contents.
class LocalFolder {
 public:
  explicit LocalFolder(Path folder) : folder_(std::move(folder)) {}
  // The file is there with that content: its note says so, or its hash.
  bool has(const RemoteFile& file, const StopToken& stop = {}) const;
  void note(const RemoteFile& file, const std::string& commit) const;
  // Throws verification for names that would overwrite the notes.
  static void check_name(const RemoteFile& file);
  // Throws usage, naming the file, if something lies in the place of this one that was never pulled
  // (--force or not), or was changed since (unless `force`). A file that was pulled and not changed
  // may be replaced.
  void check_place(const RemoteFile& file, bool force) const;
  Path state() const { return folder_ / ".cache" / "huggingface"; }

 private:
  Path folder_;
};

}  // namespace qwb::hub
