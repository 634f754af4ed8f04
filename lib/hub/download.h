// Downloads files of one repository, several at once and several pieces of a large one at once,
// each checked by its hash before it gets its name. Pieces of an earlier run are used; pieces of
// this run are kept, however it ends.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/file_lock.h"
#include "lib/hub/hash_follower.h"
#include "lib/hub/http.h"
#include "lib/hub/partial.h"
#include "lib/hub/retry.h"
#include "lib/hub/transfer.h"

namespace qwb::hub {

struct BlobRequest {
  std::string name;  // for messages
  Url url;
  std::string etag;
  int64_t size = 0;
};

// Where a blob lies while it is incomplete: a name of this machine's own, since locks between
// machines cannot be relied on. huggingface_hub names its temporary files alike
// (ETAG.XXXXXXXX.incomplete) and leaves others' alone.
Path partial_path(const Path& blobs, const std::string& etag);

class Downloader {
 public:
  // `blobs`: the folder in which files get their etag as name; `locks`: of the lock files. Both are
  // created.
  Downloader(Http& http, const HubSettings& settings, const RepoName& repo, Path blobs, Path locks,
             const Context& context);
  ~Downloader();
  Downloader(const Downloader&) = delete;
  Downloader& operator=(const Downloader&) = delete;

  // Returns when all are there. Throws what Transfer throws, or `verification` for content without
  // the announced hash (after a second download).
  void run(const std::vector<BlobRequest>& requests);

 private:
  struct Job;
  struct Try;  // when a piece may be tried again
  double now() const;
  void fill();
  bool open(Job& job);
  bool wait_for_other(Job& job);
  void begin_transfers(Job& job);
  void begin_transfer(Job& job, int64_t piece);
  void settle_transfers();
  void settle(Job& job, const Transfer& transfer);
  void settle_hashes();
  void publish(Job& job);
  void finish(Job& job);
  void arrived(Job& job, int64_t fresh);

  Http& http_;
  const HubSettings& settings_;
  const RepoName& repo_;
  const Path blobs_, locks_;
  Context context_;
  Backoff backoff_;
  double pause_until_ = 0;  // the Hub asked for silence
  size_t left_ = 0;
  size_t open_ = 0;
  size_t count_ = 0;
  std::list<Job> jobs_;
  HashFollower follower_;
  std::list<std::pair<Job*, Transfer>> transfers_;
};

}  // namespace qwb::hub
