// Questions to the Hub: what a repository holds, and what a file is. Answers are checked and
// bounded before they are used.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/hub/http.h"
#include "lib/hub/names.h"
#include "lib/hub/retry.h"
#include "lib/hub/settings.h"

namespace qwb::hub {

// The Hub cannot be asked: offline, unreachable, failing. Files in the cache may suffice.
class HubUnavailable : public Error {
 public:
  explicit HubUnavailable(const Error& error) : Error(error) {}
};

struct RepoInfo {
  std::string commit;                 // 40 hex digits
  std::vector<std::string> siblings;  // paths of its files; may be empty where only the tree tells
};

class HubClient {
 public:
  HubClient(Http& http, const HubSettings& settings, const Context& context);

  // All of these throw not_found (absent, or no access: with advice on how to get it),
  // HubUnavailable, verification for answers that no Hub gives; interrupted.

  // The commit behind the repository's revision.
  RepoInfo info(const RepoName& repo);
  // All files at a commit, names checked. Nothing if the server has no such listing (a simple
  // mirror).
  std::optional<std::vector<RemoteFile>> tree(const RepoName& repo, const std::string& commit);
  // One file, from the head of its answer.
  RemoteFile file(const RepoName& repo, const std::string& commit, const std::string& path);
  // The account's name; empty if the server does not send it. Throws not_found if the server does
  // not accept the token.
  std::string whoami();

  // Where a file's bytes are asked for.
  static Url file_url(const HubSettings& settings, const RepoName& repo, const std::string& commit,
                      const std::string& path);

 private:
  struct Reply {
    HttpHead head;
    std::string body;
    Url url;
  };
  struct Collector;
  void exchange(const HttpRequest& request, Collector& collector);
  void wait_before_retry(int failures, double requested);
  Reply ask(const RepoName& repo, const Url& url, bool head_only, bool follow_away);
  Http& http_;
  const HubSettings& settings_;
  Context context_;
  Backoff backoff_;
};

}  // namespace qwb::hub
