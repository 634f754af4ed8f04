#include "lib/hub/cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "lib/base/error.h"
#include "lib/base/json.h"

namespace qwb::hub {
namespace fs = std::filesystem;

namespace {

constexpr char kTag[] =
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This file marks a cache folder (see https://bford.info/cachedir/); backups may leave it "
    "out.\n";

bool is_file_of_size(const Path& path, int64_t size) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_size == size;
}

void create_folder(const Path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw system_error("cannot create folder", folder.string(), error.value());
}

// The target that a symlink at snapshots/COMMIT/PATH needs to lead to blobs/ETAG.
std::string link_text(const RemoteFile& file) {
  std::string text = "../../";
  for (const char c : file.path) text += c == '/' ? "../" : "";
  return text + "blobs/" + file.etag;
}

bool links_impossible(int reason) {
  return reason == EPERM || reason == ENOTSUP || reason == ENOSYS || reason == EINVAL;
}

void write_if_other(const Path& path, const std::string& text) {
  std::error_code ignored;
  if (fs::exists(path, ignored) && fs::file_size(path, ignored) == text.size() &&
      read_text(path) == text)
    return;
  write_file_atomically(path, as_bytes(text));
}

RemoteFile kept_entry(const std::string& path, const Json& entry, const std::string& where) {
  RemoteFile file;
  file.path = path;
  file.size = json_int(entry, "size", where);
  file.git_oid = file.etag = json_string(entry, "blob_id", where);
  file.xet_hash = json_string(entry, "xet_hash", where, "");
  if (json_has(entry, "lfs_sha256")) {
    file.etag = json_string(entry, "lfs_sha256", where);
    file.size = json_int(entry, "lfs_size", where, file.size);
  }
  if (file.size < 0 || (!is_hex(file.etag, 40) && !is_hex(file.etag, 64)))
    throw Error(ErrorKind::failed, "not a list of files", where);
  return file;
}

}  // namespace

void create_folders_below(const Path& root, const Path& relative) {
  create_folder(root);
  Path at = root;
  for (const Path& part : relative.parent_path()) {
    at /= part;
    if (::mkdir(at.c_str(), 0777) != 0 && errno != EEXIST)
      throw system_error("cannot create folder", at.string(), errno);
    struct stat status {};
    if (::lstat(at.c_str(), &status) != 0) throw system_error("cannot look at", at.string(), errno);
    if (!S_ISDIR(status.st_mode))
      throw Error(ErrorKind::verification, "is no folder, and could lead elsewhere", at.string(),
                  "remove it, then try again");
  }
}

RepoCache::RepoCache(const Path& cache, const RepoName& repo, bool symlinks)
    : cache_(fs::absolute(cache).lexically_normal()),
      folder_(cache_ / repo.folder()),
      locks_(cache_ / ".locks" / repo.folder()),
      repo_(repo),
      symlinks_(symlinks) {}

std::string RepoCache::commit() const {
  if (repo_.is_commit()) return repo_.revision;
  std::error_code ignored;
  const Path ref = folder_ / "refs" / repo_.revision;
  if (!fs::is_regular_file(ref, ignored)) return {};
  std::string text = read_text(ref, 4096);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' '))
    text.pop_back();
  return is_hex(text, 40) ? text : "";
}

void RepoCache::write_ref(const std::string& commit) const {
  if (repo_.is_commit()) return;
  create_folders_below(folder_ / "refs", repo_.revision);
  write_if_other(folder_ / "refs" / repo_.revision, commit);
}

std::optional<std::vector<RemoteFile>> RepoCache::tree(const std::string& commit) const {
  auto files = kept_tree(folder_ / ".qwb" / "trees" / (commit + ".json"));
  return files ? files : kept_tree(folder_ / "trees" / (commit + ".json"));
}

std::optional<std::vector<RemoteFile>> RepoCache::kept_tree(const Path& path) {
  try {
    const Json json = parse_json(read_text(path, int64_t{128} << 20), path.string());
    if (json_int(json, "format_version", path.string()) != 1) return std::nullopt;
    std::vector<RemoteFile> files;
    for (const auto& [name, entry] : json.at("files").items())
      files.push_back(kept_entry(name, entry, path.string()));
    check_file_names(files, path.string());
    return files;
  } catch (const std::exception&) {  // absent, or of no use: the Hub can be asked
    return std::nullopt;
  }
}

void RepoCache::write_tree(const std::string& commit, const std::vector<RemoteFile>& files) const {
  Json entries = Json::object();
  for (const RemoteFile& file : files) {
    if (file.git_oid.empty()) return;  // not from a listing: huggingface_hub could not use it
    Json& entry = entries[file.path];
    entry = {{"size", file.size}, {"blob_id", file.git_oid}};
    if (file.etag.size() == 64) {
      entry["lfs_sha256"] = file.etag;
      entry["lfs_size"] = file.size;
    }
    if (!file.xet_hash.empty()) entry["xet_hash"] = file.xet_hash;
  }
  const Path folder = folder_ / ".qwb" / "trees";
  create_folder(folder);
  const Json json = {{"format_version", 1}, {"files", entries}};
  write_if_other(folder / (commit + ".json"), json.dump(1));
}

bool RepoCache::has_blob(const RemoteFile& file) const {
  return is_file_of_size(blobs() / file.etag, file.size);
}

bool RepoCache::has(const std::string& commit, const RemoteFile& file) const {
  return is_file_of_size(snapshot(commit) / file.path, file.size);
}

void move_or_copy(const Path& from, const Path& target, bool keep) {
  if (!keep) {
    if (::rename(from.c_str(), target.c_str()) != 0)
      throw system_error("cannot rename to", target.string(), errno);
    return;
  }
  const Path temporary = temporary_sibling(target);
  std::error_code error;
  fs::copy_file(from, temporary, error);
  if (!error) fs::rename(temporary, target, error);
  if (!error) return;
  std::error_code ignored;
  fs::remove(temporary, ignored);
  throw system_error("cannot copy to", target.string(), error.value());
}

void RepoCache::place(const std::string& commit, const RemoteFile& file, bool needed_again) const {
  const Path root = snapshot(commit), target = root / file.path, blob = blobs() / file.etag;
  create_folders_below(root, file.path);
  std::error_code ignored;
  const std::string text = link_text(file);
  if (fs::is_symlink(target, ignored) && fs::read_symlink(target, ignored) == text) return;
  if (!has_blob(file)) {
    if (has(commit, file))
      return;  // a file system without symlinks: the file itself is here already
    throw Error(ErrorKind::failed, "vanished while it was being used", blob.string(), "try again");
  }
  if (symlinks_) {
    if (::symlink(text.c_str(), target.c_str()) == 0) return;
    if (errno == EEXIST) {
      const Path temporary = temporary_sibling(target);
      if (::symlink(text.c_str(), temporary.c_str()) == 0) {
        if (::rename(temporary.c_str(), target.c_str()) == 0) return;
        ::unlink(temporary.c_str());
      }
    }
    if (!links_impossible(errno)) throw system_error("cannot link", target.string(), errno);
  }
  const Path temporary = temporary_sibling(target);
  if (::link(blob.c_str(), temporary.c_str()) != 0) return move_or_copy(blob, target, needed_again);
  move_or_copy(temporary, target, false);
  ::unlink(temporary.c_str());  // rename() leaves it if both were the same file already
}

bool RepoCache::known_absent(const std::string& commit, const std::string& path) const {
  std::error_code ignored;
  return fs::exists(folder_ / ".no_exist" / commit / path, ignored);
}

void RepoCache::mark_absent(const std::string& commit, const std::string& path) const {
  if (known_absent(commit, path)) return;
  const Path root = folder_ / ".no_exist" / commit;
  create_folders_below(root, path);
  write_file_atomically(root / path, {});
}

void RepoCache::tag() const {
  std::error_code ignored;
  if (fs::exists(cache_ / "CACHEDIR.TAG", ignored)) return;
  create_folder(cache_);
  write_file_atomically(cache_ / "CACHEDIR.TAG", as_bytes(kTag));
}

}  // namespace qwb::hub
