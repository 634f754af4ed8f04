#include "lib/base/outputs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "lib/base/error.h"
#include "lib/base/written_files.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

constexpr char kElsewhere[] = "choose another place";

[[noreturn]] void refuse_place(const std::string& what, const Path& place,
                               const std::string& advice) {
  throw Error(ErrorKind::usage, what, place.string(), advice);
}

// The status of what is there, links not followed; false if there is nothing.
bool status_of(const Path& path, struct stat& status) {
  if (::lstat(path.c_str(), &status) == 0) return true;
  if (errno == ENOENT) return false;
  throw system_error("cannot write there", path.string(), errno);
}

// Absolute, without `.`, `..` and links as far as it exists.
Path real_place(const Path& target, const std::string& flag) {
  if (target.empty()) throw Error(ErrorKind::usage, "an empty name", flag);
  if (target == "-") refuse_place("this is no name of a file", target, kElsewhere);
  std::error_code error;
  Path path = fs::absolute(target, error);
  if (!path.has_filename()) path = path.parent_path();
  struct stat status {};
  const bool there = status_of(path, status);
  if (there && S_ISLNK(status.st_mode) && !fs::exists(path, error))
    refuse_place("a symbolic link that leads nowhere", target, kElsewhere);
  const Path real = fs::weakly_canonical(path, error);
  if (error) throw system_error("cannot write there", target.string(), error.value());
  return real;
}

// The nearest folder above that is there.
Path existing_parent(const Path& path) {
  Path at = path.parent_path();
  std::error_code error;
  while (!fs::exists(at, error) && at != at.parent_path()) at = at.parent_path();
  return at;
}

void require_short_names(const Path& path, const Path& parent) {
  const int64_t most = ::pathconf(parent.c_str(), _PC_NAME_MAX);
  bool too_long = path.native().size() >= PATH_MAX;
  for (const Path& part : path.lexically_relative(parent))
    too_long = too_long || (most > 0 && static_cast<int64_t>(part.native().size()) > most);
  if (too_long) throw system_error("cannot write there", path.string(), ENAMETOOLONG);
}

// Tries to write: to root, access() also allows places where writing fails.
void require_writable(const Path& folder, const Path& target) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    throw system_error("cannot write there", target.string(), ENOTDIR);
  const Path probe = temporary_sibling(folder / "probe");
  const int file = ::open(probe.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) throw system_error("cannot write there", target.string(), errno);
  ::close(file);
  ::unlink(probe.c_str());
}

bool is_mount_point(const Path& folder) {
  struct statx status {};
  return ::statx(AT_FDCWD, folder.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &status) == 0 &&
         (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

// Leftovers of killed processes beside the target are removed once there is something to write.
void prepare_parent(const Path& parent) {
  remove_stale_temporaries(parent);
}

}  // namespace

bool Outputs::identify(const Path& path, Identity& identity) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return false;
  identity = {static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)};
  return true;
}

// Also finds other spellings of the same folder: mounts, and file systems that ignore case.
bool Outputs::lies_in(const Path& path, const Path& folder) {
  Identity wanted;
  const bool known = identify(folder, wanted);
  for (Path at = path;; at = at.parent_path()) {
    Identity here;
    if (at == folder || (known && identify(at, here) && here == wanted)) return true;
    if (at == at.parent_path()) return false;
  }
}

std::vector<Path> Outputs::files_of(const Path& folder) {
  std::vector<Path> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->is_regular_file(error)) files.push_back(it->path());
  }
  return files;
}

Path Outputs::file(const Path& target, const std::string& flag, const Kind& kind) {
  if (!target.empty() && !target.has_filename())
    refuse_place("this names a folder, not a file to write", target, kElsewhere);
  const Path path = real_place(target, flag);
  struct stat status {};
  const bool there = status_of(path, status);
  if (there) {
    if (S_ISDIR(status.st_mode))
      refuse_place("this is a folder, not a file to write", target, kElsewhere);
    if (!S_ISREG(status.st_mode)) refuse_place("this is no regular file", target, kElsewhere);
    if (!force_) refuse_place("the file exists", target, "choose another name or add --force");
  }
  const Path parent = path.parent_path();
  std::error_code error;
  if (!fs::exists(parent, error))
    throw Error(ErrorKind::not_found, "there is no such folder to write into", parent.string());
  require_short_names(path, parent);
  add({path, flag, false});
  if (there && kind && status.st_size > 0 && !kind(path)) {
    refuse_place("the file stays, --force or not: it is none that " + flag + " writes", target,
                 "choose another name, or move it away yourself");
  }
  require_writable(parent, target);
  prepare_parent(parent);
  return path;
}

Path Outputs::folder(const Path& target, const std::string& flag) {
  const Path path = real_place(target, flag);
  const Path parent = existing_parent(path);
  struct stat status {};
  if (status_of(path, status)) {
    if (!S_ISDIR(status.st_mode))
      refuse_place("a file, and a folder is to be made", target, kElsewhere);
    std::error_code error;
    const Path current = fs::current_path(error);
    if (!error && lies_in(current, path))
      refuse_place("the current folder cannot be replaced", target, "name a new folder in it");
    if (is_mount_point(path))
      refuse_place("a mount point cannot be replaced", target, "name a folder in it");
    const bool is_empty = fs::is_empty(path, error);
    if (error) throw system_error("cannot write there", target.string(), error.value());
    if (!is_empty && !force_)
      refuse_place("the folder exists and is not empty", target,
                   "choose another place or add --force");
    if (!is_empty) require_own_folder(path, stop_);
  }
  require_short_names(path, parent);
  add({path, flag, true});
  require_writable(parent, target);
  prepare_parent(path.parent_path());
  return path;
}

Path Outputs::folder_for_files(const Path& target, const std::string& flag) {
  const Path path = real_place(target, flag);
  struct stat status {};
  const bool there = status_of(path, status);
  if (there && !S_ISDIR(status.st_mode))
    refuse_place("a file, and a folder for files is needed", target, kElsewhere);
  const Path parent = there ? path : existing_parent(path);
  require_short_names(path / "name", parent);
  check_kept_out({path, flag, true});
  require_writable(parent, target);
  return path;
}

void Outputs::input(const Path& path) {
  std::error_code error;
  Input input;
  input.path = fs::canonical(path, error);
  if (error) return;
  input.is_folder = fs::is_directory(input.path, error);
  for (const Path& file : input.is_folder ? files_of(input.path) : std::vector<Path>{input.path}) {
    Identity identity;
    if (identify(file, identity)) input.files.insert(identity);
  }
  for (const Place& output : outputs_) check(output, input);
  inputs_.push_back(std::move(input));
}

void Outputs::keep_out(const Path& folder, const std::string& name) {
  std::error_code error;
  kept_out_.emplace_back(fs::weakly_canonical(folder, error), name);
  for (const Place& output : outputs_) check_kept_out(output);
}

void Outputs::add(Place place) {
  check_kept_out(place);
  for (const Input& input : inputs_) check(place, input);
  for (const Place& other : outputs_) check(place, other);
  outputs_.push_back(std::move(place));
}

void Outputs::check_kept_out(const Place& output) const {
  for (const auto& [folder, name] : kept_out_) {
    if (lies_in(output.path, folder))
      refuse_place("this lies in " + name + ", which only qwb itself writes", output.path,
                   kElsewhere);
  }
}

void Outputs::check(const Place& output, const Input& input) const {
  Identity identity;
  if (output.is_folder) {
    if (lies_in(output.path, input.path) || lies_in(input.path, output.path))
      refuse_place(output.flag + " lies in what is read, or holds it: " + input.path.string(),
                   output.path, "choose a place beside it");
    for (const Path& file : files_of(output.path)) {
      if (identify(file, identity) && input.files.contains(identity))
        refuse_place(file.filename().string() + " in it is a file that is read too", output.path,
                     kElsewhere);
    }
    return;
  }
  if (!identify(output.path, identity)) return;  // a new file destroys nothing
  if (input.files.contains(identity) || (input.is_folder && lies_in(output.path, input.path)))
    refuse_place(output.flag + " would write over what is read", output.path, kElsewhere);
}

void Outputs::check(const Place& output, const Place& other) const {
  if (output.path == other.path)
    refuse_place(output.flag + " and " + other.flag + ": this place is named twice", output.path,
                 kElsewhere);
  const bool clash = (other.is_folder && lies_in(output.path, other.path)) ||
                     (output.is_folder && lies_in(other.path, output.path));
  Identity a, b;
  const bool same = identify(output.path, a) && identify(other.path, b) && a == b;
  if (clash || same)
    refuse_place(output.flag + " and " + other.flag + " would write over each other", output.path,
                 kElsewhere);
}

}  // namespace qwb
