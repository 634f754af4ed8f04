#include "lib/hub/pull.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/hub/cache.h"
#include "lib/hub/client.h"
#include "lib/hub/download.h"
#include "lib/hub/hub_error.h"
#include "lib/hub/local_folder.h"

namespace qwb::hub {
namespace fs = std::filesystem;

namespace {

constexpr int64_t kMargin = 16 << 20;  // bytes to leave free: folders, links, notes

std::string gigabytes(int64_t bytes) {
  const std::string text = std::to_string(bytes / 10'000'000);  // hundredths
  const std::string padded = text.size() < 3 ? std::string(3 - text.size(), '0') + text : text;
  return padded.substr(0, padded.size() - 2) + "." + padded.substr(padded.size() - 2) + " GB";
}

// The files of a snapshot folder as the cache shows them.
std::vector<RemoteFile> files_in(const Path& folder) {
  std::vector<RemoteFile> files;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code ignored;
    if (!it->is_regular_file(ignored))
      continue;  // follows symlinks; one that leads nowhere is no file
    RemoteFile file;
    file.path = it->path().lexically_relative(folder).string();
    file.size = static_cast<int64_t>(it->file_size(ignored));
    files.push_back(std::move(file));
  }
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });
  return files;
}

bool contains(const std::vector<RemoteFile>& files, const std::string& path) {
  return std::any_of(files.begin(), files.end(),
                     [&](const RemoteFile& file) { return file.path == path; });
}

// Every shard that the index names is there.
bool has_shards(const Path& index, const std::vector<RemoteFile>& files) {
  try {
    const Json json = parse_json(read_text(index, 256 << 20), index.string());
    std::set<std::string> shards;
    for (const auto& [tensor, shard] : json.at("weight_map").items())
      shards.insert(shard.get<std::string>());
    return !shards.empty() && std::all_of(shards.begin(), shards.end(),
                                          [&](const std::string& s) { return contains(files, s); });
  } catch (const std::exception&) {
    return false;
  }
}

constexpr const char* kWeights[] = {"model.safetensors", "pytorch_model.bin"};

// Without a list of files to compare with: whether the folder seems to have all that the tools need
// of a model.
bool looks_like_model(const RepoCache& cache, const std::string& commit,
                      const std::vector<RemoteFile>& files) {
  const bool tokenizer = contains(files, "tokenizer.json") || contains(files, "tokenizer.model") ||
                         contains(files, "vocab.json") ||
                         cache.known_absent(commit, "tokenizer.json");
  return contains(files, "config.json") && tokenizer &&
         std::any_of(std::begin(kWeights), std::end(kWeights), [&](const char* single) {
           const std::string index = std::string(single) + ".index.json";
           return contains(files, single) || has_shards(cache.snapshot(commit) / index, files);
         });
}

}  // namespace

int64_t PullPlan::bytes() const {
  int64_t total = 0;
  for (const PlannedFile& file : files) total = checked_add(total, file.file.size, file.file.path);
  return total;
}

// A content that several files share is downloaded once.
int64_t PullPlan::missing_bytes() const {
  int64_t total = 0;
  std::set<std::string> counted;
  for (const PlannedFile& file : files) {
    if (!file.here && counted.insert(file.file.etag).second)
      total = checked_add(total, file.file.size - file.on_disk, file.file.path);
  }
  return total;
}

int64_t PullPlan::missing_files() const {
  return std::count_if(files.begin(), files.end(),
                       [](const PlannedFile& file) { return !file.here; });
}

Pull::Pull(const HubSettings& settings, PullRequest request, const Context& context)
    : settings_(settings),
      request_(std::move(request)),
      context_(context),
      cache_(std::make_unique<RepoCache>(settings.cache, request_.repo, settings.symlinks)),
      http_(std::make_unique<Http>(settings, context.stop)),
      client_(std::make_unique<HubClient>(*http_, settings, context)) {}

Pull::~Pull() = default;

Path Pull::blobs() const {
  return request_.local_dir.empty() ? cache_->blobs()
                                    : LocalFolder(request_.local_dir).state() / "qwb" / "blobs";
}

Path Pull::locks() const {
  return request_.local_dir.empty() ? cache_->locks()
                                    : LocalFolder(request_.local_dir).state() / "qwb" / "locks";
}

PullPlan Pull::make_plan(const std::string& commit, const std::vector<RemoteFile>& wanted) const {
  PullPlan plan;
  plan.commit = commit;
  const bool local = !request_.local_dir.empty();
  plan.folder = local ? request_.local_dir : cache_->snapshot(commit);
  const LocalFolder folder(request_.local_dir);
  for (const RemoteFile& file : wanted) {
    if (local) LocalFolder::check_name(file);
    PlannedFile planned{file, false, 0};
    planned.here = local ? folder.has(file, context_.stop)
                         : cache_->has(commit, file) || cache_->has_blob(file);
    planned.on_disk =
        planned.here ? file.size : Partial::present_in(partial_path(blobs(), file.etag), file.size);
    plan.files.push_back(planned);
  }
  return plan;
}

// Answers from the cache alone. lenient: the Hub cannot be asked, so that any plausible snapshot is
// taken.
std::optional<PullPlan> Pull::from_cache(const std::string& commit, bool lenient) const {
  if (commit.empty()) return std::nullopt;
  if (const auto tree = cache_->tree(commit)) {
    PullPlan plan = make_plan(commit, request_.selection.apply(request_.repo.kind, *tree));
    if (plan.files.empty() || plan.missing_files() > 0) return std::nullopt;
    return plan;
  }
  if (!request_.local_dir.empty()) return std::nullopt;
  const std::vector<RemoteFile> files = files_in(cache_->snapshot(commit));
  const Selection& selection = request_.selection;
  bool complete = false;
  if (selection.include.empty() && request_.repo.kind == RepoKind::model) {
    complete = looks_like_model(*cache_, commit, files);
  } else if (!selection.include.empty()) {
    complete = std::all_of(selection.include.begin(), selection.include.end(),
                           [&](const std::string& pattern) {
                             return (lenient && has_wildcard(pattern)) || contains(files, pattern);
                           });
  } else {
    complete = lenient;
  }
  const std::vector<RemoteFile> wanted = selection.apply(request_.repo.kind, files);
  if (!complete || wanted.empty()) return std::nullopt;
  PullPlan plan;
  plan.commit = commit;
  plan.folder = cache_->snapshot(commit);
  for (const RemoteFile& file : wanted) plan.files.push_back({file, true, file.size});
  return plan;
}

std::vector<RemoteFile> Pull::wanted_files(const std::string& commit, bool anew) {
  const RepoName& repo = request_.repo;
  auto listing = anew ? std::nullopt : cache_->tree(commit);
  if (!listing) listing = client_->tree(repo, commit);
  if (listing) {
    listing_ = *listing;
    return request_.selection.apply(repo.kind, *listing);
  }
  // A server without listings: names from the model's info, the rest from the head of every wanted
  // file.
  if (siblings_.empty()) {
    RepoName at_commit = repo;
    at_commit.revision = commit;
    siblings_ = client_->info(at_commit).siblings;
  }
  std::vector<RemoteFile> wanted;
  for (const std::string& path : siblings_) check_file_name(path, repo.text());
  for (const std::string& path : request_.selection.apply(repo.kind, siblings_))
    wanted.push_back(client_->file(repo, commit, path));
  check_file_names(wanted, repo.text());
  return wanted;
}

PullPlan Pull::ask_hub(bool anew) {
  const RepoName& repo = request_.repo;
  std::string commit = repo.revision;
  siblings_.clear();
  if (!repo.is_commit()) {
    RepoInfo info = client_->info(repo);
    commit = info.commit;
    siblings_ = std::move(info.siblings);
  }
  const std::vector<RemoteFile> wanted = wanted_files(commit, anew);
  if (wanted.empty())
    throw Error(
        ErrorKind::not_found, "no file of the repository is wanted", repo.text(),
        "see " + settings_.endpoint + repo.page_path() + "/tree/main, and name files by --include");
  refuse_without_weights(wanted);
  PullPlan plan = make_plan(commit, wanted);
  plan.asked = true;
  return plan;
}

// Without weights that the tools can read, the model's other files are useless.
void Pull::refuse_without_weights(const std::vector<RemoteFile>& wanted) const {
  const RepoName& repo = request_.repo;
  if (repo.kind != RepoKind::model || !request_.selection.include.empty() ||
      !request_.selection.exclude.empty())
    return;
  std::vector<std::string> paths;
  for (const RemoteFile& file : listing_) paths.push_back(file.path);
  if (paths.empty()) paths = siblings_;
  const auto any_with = [&wanted](const std::string& ending) {
    return std::any_of(wanted.begin(), wanted.end(), [&](const RemoteFile& file) {
      return file.path.ends_with(ending) && !file.path.starts_with("adapter_model");
    });
  };
  if (any_with(".safetensors")) return;
  if (any_with(".bin")) {
    context_.progress->note(
        repo.text() +
        " has no safetensors; its weights are pytorch_model.bin, pickled, which "
        "is read without executing anything");
    return;
  }
  const OtherWeights other = other_weights(paths);
  if (other.files.empty()) {
    context_.progress->note(repo.text() + " has no weights: only its other files are pulled");
    return;
  }
  std::string advice = other.advice;
  if (other.pulled_by_name)
    advice =
        "`qwb-pull " + repo.text() + " --include '" + other.files.front() + "'` gets " + advice;
  throw Error(
      ErrorKind::unsupported,
      other.what + " (" + other.files.front() +
          (other.files.size() > 1 ? " and " + std::to_string(other.files.size() - 1) + " more"
                                  : "") +
          ")",
      repo.text(), advice);
}

PullPlan Pull::current_plan(bool anew) {
  const RepoName& repo = request_.repo;
  const std::string known = cache_->commit();
  if (!anew && (settings_.offline || !request_.ask || repo.is_commit())) {
    if (auto plan = from_cache(known, settings_.offline)) return std::move(*plan);
  }
  if (settings_.offline)
    throw Error(ErrorKind::not_found,
                known.empty()
                    ? "not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub"
                    : "not completely in the cache, and HF_HUB_OFFLINE forbids to ask the Hub",
                repo.text(), "pull it once while online; the cache is " + settings_.cache.string());
  try {
    return ask_hub(anew);
  } catch (const HubUnavailable& error) {
    auto plan = anew ? std::nullopt : from_cache(known, true);
    if (!plan) throw;
    context_.progress->note(std::string(error.what()) + "; using what the cache has (" +
                            known.substr(0, 12) + ")");
    return std::move(*plan);
  }
}

PullPlan Pull::plan() {
  return current_plan(false);
}

PullPlan Pull::run() {
  try {
    PullPlan plan = current_plan(false);
    fetch(plan);
    return plan;
  } catch (const ChangedOnServer& error) {
    context_.progress->end();
    context_.progress->note(std::string(error.what()) + "; asking the Hub anew");
  }
  PullPlan plan = current_plan(true);
  fetch(plan);
  return plan;
}

void Pull::check_disk_space(const PullPlan& plan) const {
  const int64_t missing = plan.missing_bytes();
  if (missing == 0) return;
  const int64_t free = free_disk_space(blobs());
  if (free - kMargin < missing)
    throw Error(
        ErrorKind::failed,
        gigabytes(missing) + " are missing and the disk has only " + gigabytes(free) + " free",
        blobs().string(), "free some space, or choose another place by HF_HOME or --local-dir");
}

void Pull::fetch(PullPlan& plan) {
  check_disk_space(plan);
  if (!request_.local_dir.empty()) {
    for (const PlannedFile& file : plan.files) {
      if (!file.here) LocalFolder(request_.local_dir).check_place(file.file, request_.force);
    }
  }
  std::vector<BlobRequest> requests;
  std::set<std::string> asked;
  for (const PlannedFile& file : plan.files) {
    if (file.here || !asked.insert(file.file.etag).second) continue;
    requests.push_back({file.file.path,
                        HubClient::file_url(settings_, request_.repo, plan.commit, file.file.path),
                        file.file.etag, file.file.size});
  }
  if (!requests.empty()) {
    Downloader downloader(*http_, settings_, request_.repo, blobs(), locks(), context_);
    downloader.run(requests);
  }
  place(plan);
  if (request_.local_dir.empty() && plan.asked) finish_snapshot(plan);
}

void Pull::place(const PullPlan& plan) {
  std::map<std::string, int> uses;
  for (const PlannedFile& file : plan.files) ++uses[file.file.etag];
  const LocalFolder folder(request_.local_dir);
  for (const PlannedFile& file : plan.files) {
    const bool needed_again = --uses[file.file.etag] > 0;
    if (request_.local_dir.empty()) {
      if (!file.file.etag.empty()) cache_->place(plan.commit, file.file, needed_again);
      continue;
    }
    if (!file.here) {
      create_folders_below(request_.local_dir, file.file.path);
      move_or_copy(blobs() / file.file.etag, request_.local_dir / file.file.path, needed_again);
    }
    if (plan.asked) folder.note(file.file, plan.commit);
  }
}

void Pull::finish_snapshot(const PullPlan& plan) {
  cache_->tag();
  if (!listing_.empty()) {
    cache_->write_tree(plan.commit, listing_);
    if (request_.repo.kind == RepoKind::model) {
      for (const std::string& path : optional_model_files()) {
        if (!contains(listing_, path)) cache_->mark_absent(plan.commit, path);
      }
    }
  }
  cache_->write_ref(plan.commit);  // last: until now the branch stood for what was there before
}

}  // namespace qwb::hub
