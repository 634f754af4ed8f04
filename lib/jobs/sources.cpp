#include "lib/jobs/sources.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/base/text_file.h"
#include "lib/hub/cache.h"
#include "lib/hub/pull.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;

constexpr char kLima[] = "GAIR/lima";
constexpr char kLimaFile[] = "train.jsonl";

bool is_there(const Path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool can_be_repo(const std::string& name) {
  return hub::is_repo_name(name) && !name.starts_with(".") && !name.starts_with("~");
}

hub::PullPlan pull(const hub::HubSettings& settings, const hub::RepoName& repo,
                   const hub::Selection& selection, const Context& context) {
  hub::PullRequest request;
  request.repo = repo;
  request.selection = selection;
  request.ask = false;
  return hub::Pull(settings, request, context).run();
}

// The data set's file in the cache, if it is there.
std::optional<Path> cached_file(const hub::HubSettings& settings, const hub::RepoName& repo,
                                const std::string& file) {
  const hub::RepoCache cache(settings.cache, repo, settings.symlinks);
  const std::string commit = cache.commit();
  if (commit.empty() || !is_there(cache.snapshot(commit) / file)) return std::nullopt;
  return cache.snapshot(commit) / file;
}

Path lima_file(const Context& context) {
  const hub::HubSettings settings = hub::HubSettings::from_environment();
  const hub::RepoName repo = hub::parse_repo(kLima, hub::RepoKind::dataset);
  if (const auto file = cached_file(settings, repo, kLimaFile)) return *file;
  const char* data = std::getenv("QWB_DATA");
  if (data != nullptr && *data != '\0' && is_there(Path(data) / "lima.jsonl"))
    return Path(data) / "lima.jsonl";
  try {
    return pull(settings, repo, {{kLimaFile}, {}}, context).folder / kLimaFile;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::not_found) throw;
    throw Error(ErrorKind::not_found, error.what(), "the calibration set 'lima'",
                "its licence must be accepted once, at huggingface.co/datasets/GAIR/lima; or put "
                "the file at "
                "$QWB_DATA/lima.jsonl, or choose --calib demo");
  }
}

bool is_text(const std::string& path) {
  return has_suffix(path, ".jsonl") || has_suffix(path, ".ndjson") || has_suffix(path, ".txt");
}

// The file that a data set's name alone means: a .jsonl before a .txt, the training part before
// others, the first of several.
std::string training_file(const std::vector<hub::PlannedFile>& files, const hub::RepoName& repo) {
  const auto rank = [](const std::string& path) {
    const std::string name = Path(path).filename().string();
    return (path.ends_with(".jsonl") ? 0 : 4) + (name.starts_with("train")                 ? 0
                                                 : path.find("train") != std::string::npos ? 1
                                                                                           : 2);
  };
  std::string best;
  for (const hub::PlannedFile& planned : files) {
    const std::string& path = planned.file.path;
    if (is_text(path) && (best.empty() || rank(path) < rank(best))) best = path;
  }
  if (best.empty())
    throw Error(ErrorKind::unsupported, "the data set has no .jsonl and no .txt file", repo.text(),
                "calibration reads these two only");
  return best;
}

Path dataset_file(const std::string& source, const Context& context) {
  const hub::HubSettings settings = hub::HubSettings::from_environment();
  const size_t colon = source.find(':');
  const hub::RepoName repo = hub::parse_repo(source.substr(0, colon), hub::RepoKind::dataset);
  std::string file = colon == std::string::npos ? "" : source.substr(colon + 1);
  if (file.empty()) {
    hub::PullRequest request;
    request.repo = repo;
    request.selection.include = {"*.jsonl", "*.txt"};
    request.ask = false;
    file = training_file(hub::Pull(settings, request, context).plan().files, repo);
    context.progress->note("calibrating with " + file + " of " + repo.text());
  }
  if (!is_text(file) || hub::has_wildcard(file))
    throw Error(ErrorKind::usage, "'" + file + "' is no .jsonl and no .txt file", repo.text());
  return pull(settings, repo, {{file}, {}}, context).folder / file;
}

bool is_dataset(const std::string& source) {
  const size_t colon = source.find(':');
  return source.find('/') != std::string::npos && can_be_repo(source.substr(0, colon)) &&
         (colon != std::string::npos || !is_text(source));
}

}  // namespace

Path model_folder(const std::string& name, const Context& context) {
  if (is_there(name) || !can_be_repo(name)) return name;
  try {
    return pull(hub::HubSettings::from_environment(), hub::parse_repo(name, hub::RepoKind::model),
                {}, context)
        .folder;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::not_found) throw;
    throw Error(ErrorKind::not_found,
                "no such model folder, and none from the Hub: " + std::string(error.what()));
  }
}

Path calibration_file(const std::string& source, const Context& context) {
  if (source == "lima") return lima_file(context);
  Path file = source;
  if (is_there(file)) return file;  // whatever its name: what is no text is refused when it is read
  if (is_dataset(source)) return dataset_file(source, context);
  if (!is_text(source))
    throw Error(ErrorKind::usage, "unknown calibration set '" + source + "'", {},
                "known: lima, demo, a .jsonl file, a .txt file, a set saved as .qwbcalib, a data "
                "set on the "
                "Hub as OWNER/NAME or OWNER/NAME:FILE");
  throw Error(ErrorKind::not_found, "there is no such file", source);
}

Path published_file(const std::string& dataset, const std::string& file, const Context& context) {
  const hub::HubSettings settings = hub::HubSettings::from_environment();
  const hub::RepoName repo = hub::parse_repo(dataset, hub::RepoKind::dataset);
  if (const auto here = cached_file(settings, repo, file)) return *here;
  return pull(settings, repo, {{file}, {}}, context).folder / file;
}

}  // namespace qwb
