#include "lib/hub/origin.h"

#include <sys/stat.h>

#include <algorithm>
#include <sstream>
#include <string_view>
#include <system_error>

#include "lib/base/names.h"

namespace qwb::hub {
namespace fs = std::filesystem;

namespace {

constexpr size_t kCommitDigits = 40;

bool is_commit(std::string_view text) {
  return text.size() == kCommitDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// .../models--ORG--NAME/snapshots/COMMIT, or a folder in it
std::optional<std::string> commit_of_snapshot(Path folder) {
  for (; folder.has_relative_path(); folder = folder.parent_path()) {
    const Path snapshots = folder.parent_path();
    const std::string commit = folder.filename().string();
    if (is_commit(commit) && snapshots.filename() == "snapshots" &&
        snapshots.parent_path().filename().string().starts_with("models--"))
      return commit;
  }
  return std::nullopt;
}

// What huggingface_hub's note beside a file says, if the file is still what was noted.
std::optional<std::string> noted_commit(const Path& folder, const std::string& file) {
  const Path note = folder / ".cache" / "huggingface" / "download" / (file + ".metadata");
  struct stat status {};
  std::error_code ignored;
  if (!fs::is_regular_file(note, ignored) || ::stat((folder / file).c_str(), &status) != 0)
    return std::nullopt;
  std::istringstream text(read_text(note, 4096));
  std::string commit, etag;
  double time = 0;
  text >> commit >> etag >> time;
  if (!text || !is_commit(commit) || static_cast<double>(status.st_mtim.tv_sec) > time + 1)
    return std::nullopt;
  return commit;
}

// Files that decide what the model computes.
bool decides(const std::string& name) {
  return name == "config.json" || has_suffix(name, ".safetensors") || has_suffix(name, ".gguf") ||
         (name.starts_with("pytorch_model") && has_suffix(name, ".bin"));
}

std::optional<std::string> commit_of_local(const Path& folder) {
  std::optional<std::string> all;
  if (!fs::is_directory(folder / ".cache" / "huggingface")) return all;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!decides(name)) continue;
    const std::optional<std::string> commit = noted_commit(folder, name);
    if (!commit || (all && *all != *commit)) return std::nullopt;
    all = commit;
  }
  return all;
}

}  // namespace

std::optional<std::string> commit_of(const Path& model) noexcept {
  try {
    // A file is a link to its content: its folder tells, not what it leads to.
    const Path named = fs::absolute(model).lexically_normal();
    const Path place = named.has_filename() ? named : named.parent_path();
    const Path folder = fs::canonical(fs::is_directory(place) ? place : place.parent_path());
    if (const auto commit = commit_of_snapshot(folder)) return commit;
    return commit_of_local(folder);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace qwb::hub
