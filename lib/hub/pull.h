// A repository's files on this machine: in the cache that huggingface_hub shares, or in a folder.
// See lib/hub/README.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/hub/names.h"
#include "lib/hub/selection.h"
#include "lib/hub/settings.h"

namespace qwb::hub {

class Http;
class HubClient;
class RepoCache;

struct PullRequest {
  RepoName repo;
  Selection selection;
  Path local_dir;      // the files go there instead of the cache
  bool force = false;  // files there that were changed since they were pulled may be replaced
  // Whether the Hub is asked what a branch or tag stands for now. If not, a complete snapshot in
  // the cache is used without a request. A commit never changes: what is there of it is used
  // without a request in any case.
  bool ask = true;
};

struct PlannedFile {
  RemoteFile file;
  bool here = false;    // nothing of it needs to be downloaded
  int64_t on_disk = 0;  // bytes of it that are here
};

struct PullPlan {
  std::string commit;
  Path folder;  // the snapshot, or local_dir
  std::vector<PlannedFile> files;
  bool asked = false;  // the Hub was asked
  int64_t bytes() const;
  int64_t missing_bytes() const;
  int64_t missing_files() const;
};

class Pull {
 public:
  Pull(const HubSettings& settings, PullRequest request, const Context& context);
  ~Pull();

  // Predicts what run() would do, without writing anything.
  PullPlan plan();
  // Downloads what is missing (unsupported, before anything is downloaded, if a model's repository
  // has weights of other kinds only); afterwards the wanted files are in folder(), each with the
  // content that the Hub named. Throws what HubClient and Downloader throw; `failed` if the disk
  // has no room for it, before anything is downloaded.
  PullPlan run();

 private:
  PullPlan ask_hub(bool anew);
  void refuse_without_weights(const std::vector<RemoteFile>& wanted) const;
  std::optional<PullPlan> from_cache(const std::string& commit, bool lenient) const;
  std::vector<RemoteFile> wanted_files(const std::string& commit, bool anew);
  PullPlan make_plan(const std::string& commit, const std::vector<RemoteFile>& wanted) const;
  PullPlan current_plan(bool anew);
  void fetch(PullPlan& plan);
  void place(const PullPlan& plan);
  void finish_snapshot(const PullPlan& plan);
  Path blobs() const;
  Path locks() const;
  void check_disk_space(const PullPlan& plan) const;

  const HubSettings& settings_;
  PullRequest request_;
  Context context_;
  std::unique_ptr<RepoCache> cache_;
  std::unique_ptr<Http> http_;
  std::unique_ptr<HubClient> client_;
  std::vector<RemoteFile> listing_;  // of all files, if it is known
  std::vector<std::string> siblings_;
};

}  // namespace qwb::hub
