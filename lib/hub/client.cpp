#include "lib/hub/client.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/file_kind.h"
#include "lib/base/json.h"
#include "lib/hub/hub_error.h"
#include "lib/hub/route.h"

namespace qwb::hub {
namespace {

constexpr size_t kLargestBody = 64 << 20;
constexpr size_t kMostFiles = 200'000;
constexpr int kMostPages = 20'000;
constexpr int64_t kLargestFile = int64_t{1} << 44;  // 16 TiB
constexpr int kConnectionTries = 3;
constexpr double kLongestAnswerWait = 60;  // seconds that a server may ask for

void sleep_seconds(double seconds, const StopToken& stop) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end) {
    stop.check();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

std::string shown_where(const Url& url) {
  return url.shown();
}

Error no_hub(const std::string& what, const Url& url) {
  return Error(ErrorKind::verification, "this is no answer of a Hub: " + what, shown_where(url),
               "check HF_ENDPOINT");
}

// A portal that wants a login, or a proxy, answers with a page and status 200.
Json hub_json(const std::string& body, const Url& url) {
  if (const auto kind = foreign_kind(as_bytes(body))) {
    throw Error(
        ErrorKind::not_found, "the answer " + kind->what, shown_where(url),
        "a portal may want a login first, or a proxy answers for the Hub; check the network and "
        "HF_ENDPOINT");
  }
  return parse_json(body, shown_where(url));
}

int64_t checked_size(int64_t size, const Url& url) {
  if (size < 0 || size > kLargestFile)
    throw no_hub("a file of " + std::to_string(size) + " bytes", url);
  return size;
}

// The target of `<url>; rel="next"`, empty without one.
std::string next_link(const std::string& field) {
  const size_t rel = field.find("rel=\"next\"");
  if (rel == std::string::npos) return {};
  const size_t open = field.rfind('<', rel), close = field.rfind('>', rel);
  if (open == std::string::npos || close == std::string::npos || close < open) return {};
  return field.substr(open + 1, close - open - 1);
}

RemoteFile tree_entry(const Json& entry, const Url& url) {
  const std::string where = shown_where(url);
  RemoteFile file;
  file.path = json_string(entry, "path", where);
  file.git_oid = file.etag = json_string(entry, "oid", where);
  file.size = json_int(entry, "size", where);
  file.xet_hash = json_string(entry, "xetHash", where, "");
  if (json_has(entry, "lfs")) {
    file.etag = json_string(entry["lfs"], "oid", where);
    file.size = json_int(entry["lfs"], "size", where);
    if (!is_hex(file.etag, 64)) throw no_hub("an LFS file without its sha256", url);
  } else if (!is_hex(file.etag, 40)) {
    throw no_hub("a file without its git hash", url);
  }
  if (!is_hex(file.git_oid, 40)) file.git_oid.clear();
  if (!is_hex(file.xet_hash, 64)) file.xet_hash.clear();
  checked_size(file.size, url);
  return file;
}

}  // namespace

// Keeps one answer.
struct HubClient::Collector : HttpHandler {
  HttpHead head;
  std::string body;
  std::optional<HttpEnd> end;
  bool too_large = false;

  bool on_head(const HttpHead& h) override {
    head = h;
    return true;
  }
  bool on_data(Bytes data) override {
    too_large = body.size() + data.size() > kLargestBody;
    if (!too_large) body += as_text(data);
    return !too_large;
  }
  void on_end(const HttpEnd& e) override { end = e; }
};

HubClient::HubClient(Http& http, const HubSettings& settings, const Context& context)
    : http_(http),
      settings_(settings),
      context_(context),
      backoff_(settings.backoff_seconds, std::random_device{}()) {}

Url HubClient::file_url(const HubSettings& settings, const RepoName& repo,
                        const std::string& commit, const std::string& path) {
  return Url::parse(settings.endpoint + repo.page_path() + "/resolve/" +
                    percent_encode(commit, false) + "/" + percent_encode(path, true));
}

// One exchange to its end.
void HubClient::exchange(const HttpRequest& request, Collector& collector) {
  http_.start(request, collector);
  try {
    while (!collector.end) http_.step(0.2);
  } catch (...) {
    http_.cancel(collector);
    throw;
  }
  if (collector.too_large) throw no_hub("longer than 64 MB", request.url);
}

// Waits before another try.
void HubClient::wait_before_retry(int failures, double requested) {
  const double seconds = std::max(backoff_.wait(failures, false), requested);
  if (seconds >= 2)
    context_.progress->note("the Hub does not answer well; trying again in " +
                            std::to_string(static_cast<int64_t>(seconds)) + " s");
  sleep_seconds(seconds, context_.stop);
}

// One answer. Temporary failures are retried, redirects followed (to another server only with
// follow_away). The answer's status is then 2xx, or a redirect that was not followed, or 404 or
// 405.
HubClient::Reply HubClient::ask(const RepoName& repo, const Url& url, bool head_only,
                                bool follow_away) {
  Route route(settings_, url);
  for (int failures = 0;;) {
    Collector collector;
    exchange(route.request(head_only, {}), collector);
    const HttpHead& head = collector.head;
    if (collector.end->kind != HttpEnd::Kind::complete) {
      const Error error = connection_error(route.url(), *collector.end);
      if (collector.end->kind == HttpEnd::Kind::untrusted) throw error;
      if (++failures >= kConnectionTries) throw HubUnavailable(error);
      wait_before_retry(failures, 0);
    } else if (is_passing(head.status)) {
      const double wait = requested_wait(head).value_or(0);
      if (++failures >= settings_.attempts || wait > kLongestAnswerWait)
        throw HubUnavailable(hub_error(settings_, repo, route.url(), head, collector.body));
      wait_before_retry(failures, wait);
    } else if (Route::is_redirect(head)) {
      const bool away = !route.url().resolve(head.field("location")).same_origin(route.url());
      if (away && !follow_away) return {head, collector.body, route.url()};
      route.follow(head);
    } else if (head.status == 200 || head.status == 404 || head.status == 405) {
      return {head, collector.body, route.url()};
    } else {
      throw hub_error(settings_, repo, route.url(), head, collector.body);
    }
  }
}

RepoInfo HubClient::info(const RepoName& repo) {
  const Url url = Url::parse(settings_.endpoint + repo.api_path() + "/revision/" +
                             percent_encode(repo.revision, false));
  const Reply reply = ask(repo, url, false, true);
  if (reply.head.status != 200) throw hub_error(settings_, repo, reply.url, reply.head, reply.body);
  const Json json = hub_json(reply.body, reply.url);
  RepoInfo info;
  info.commit = json_string(json, "sha", shown_where(reply.url));
  if (!is_hex(info.commit, 40)) throw no_hub("a commit that is none", reply.url);
  if (!json_has(json, "siblings") || !json["siblings"].is_array()) return info;
  if (json["siblings"].size() > kMostFiles) throw no_hub("more than 200000 files", reply.url);
  for (const Json& sibling : json["siblings"])
    info.siblings.push_back(json_string(sibling, "rfilename", shown_where(reply.url)));
  return info;
}

std::optional<std::vector<RemoteFile>> HubClient::tree(const RepoName& repo,
                                                       const std::string& commit) {
  std::vector<RemoteFile> files;
  std::set<std::string> seen;
  Url url = Url::parse(settings_.endpoint + repo.api_path() + "/tree/" + commit +
                       "?recursive=true&expand=false");
  for (int page = 0;; ++page) {
    if (page == kMostPages || !seen.insert(url.text()).second)
      throw no_hub("a list of files without end", url);
    const Reply reply = ask(repo, url, false, true);
    if (page == 0 && (reply.head.status == 405 ||
                      (reply.head.status == 404 && reply.head.field("x-error-code").empty())))
      return std::nullopt;
    if (reply.head.status != 200)
      throw hub_error(settings_, repo, reply.url, reply.head, reply.body);
    const Json json = hub_json(reply.body, reply.url);
    if (!json.is_array()) throw no_hub("a list of files that is no list", reply.url);
    for (const Json& entry : json) {
      if (json_string(entry, "type", shown_where(reply.url)) == "file")
        files.push_back(tree_entry(entry, reply.url));
      if (files.size() > kMostFiles) throw no_hub("more than 200000 files", reply.url);
    }
    const std::string next = next_link(reply.head.field("link"));
    if (next.empty()) break;
    url = reply.url.resolve(next);
  }
  check_file_names(files, repo.text());
  return files;
}

RemoteFile HubClient::file(const RepoName& repo, const std::string& commit,
                           const std::string& path) {
  check_file_name(path, repo.text());
  const Reply reply = ask(repo, file_url(settings_, repo, commit, path), true, false);
  if (reply.head.status == 404 || reply.head.status == 405)
    throw hub_error(settings_, repo, reply.url, reply.head, reply.body);
  const HttpHead& head = reply.head;
  if (head.field("x-repo-commit").empty()) throw no_hub("no X-Repo-Commit", reply.url);
  const bool redirect = Route::is_redirect(head);
  RemoteFile file;
  file.path = path;
  file.etag = bare_etag(head.field("x-linked-etag").empty() ? head.field("etag")
                                                            : head.field("x-linked-etag"));
  if (!is_hex(file.etag, 40) && !is_hex(file.etag, 64))
    throw Error(ErrorKind::unsupported,
                "the server gives no hash of '" + path + "', so that it cannot be verified",
                repo.text(), "use the Hub itself, or a mirror that passes its etags on");
  std::string size = head.field("x-linked-size");
  if (size.empty() && !redirect)
    size = head.field("content-length");  // a redirect's is that of its own body
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), file.size);
  if (size.empty() || error != std::errc() || end != size.data() + size.size())
    throw no_hub("a file without its size", reply.url);
  checked_size(file.size, reply.url);
  return file;
}

std::string HubClient::whoami() {
  const RepoName nobody;
  const Url url = Url::parse(settings_.endpoint + "/api/whoami-v2");
  try {
    const Reply reply = ask(nobody, url, false, false);
    if (reply.head.status != 200) return {};
    return json_string(hub_json(reply.body, url), "name", shown_where(url), "");
  } catch (const HubUnavailable&) {
    return {};
  }
}

}  // namespace qwb::hub
