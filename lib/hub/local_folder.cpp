#include "lib/hub/local_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <sstream>
#include <vector>

#include "lib/base/error.h"
#include "lib/hub/cache.h"
#include "lib/hub/digest.h"
#include "lib/hub/partial.h"

namespace qwb::hub {
namespace {

Path note_path(const Path& state, const std::string& path) {
  return state / "download" / (path + ".metadata");
}

// The note names this content, and the file was not changed since it was written.
bool noted(const Path& note, const RemoteFile& file, const struct stat& status) {
  std::string commit, etag;
  double time = 0;
  try {
    std::istringstream text(read_text(note, 4096));
    text >> commit >> etag >> time;
    if (!text) return false;
  } catch (const Error&) {
    return false;
  }
  return etag == file.etag && static_cast<double>(status.st_mtim.tv_sec) <= time + 1;
}

bool has_hash(const Path& path, const RemoteFile& file, const StopToken& stop) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  Digest digest(file.etag, file.size);
  std::vector<std::byte> block(1 << 20);
  try {
    int64_t offset = 0;
    while (const int64_t count = read_at(fd, offset, block, path)) {
      digest.update(Bytes(block).first(static_cast<size_t>(count)));
      offset += count;
      stop.check();
    }
  } catch (...) {
    ::close(fd);
    throw;
  }
  ::close(fd);
  return digest.finish() == file.etag;
}

}  // namespace

bool LocalFolder::has(const RemoteFile& file, const StopToken& stop) const {
  struct stat status {};
  const Path path = folder_ / file.path;
  if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size != file.size)
    return false;
  return noted(note_path(state(), file.path), file, status) || has_hash(path, file, stop);
}

void LocalFolder::check_place(const RemoteFile& file, bool force) const {
  struct stat status {};
  const Path path = folder_ / file.path;
  if (::lstat(path.c_str(), &status) != 0) return;
  std::string commit, etag;
  double time = 0;
  try {
    std::istringstream text(read_text(note_path(state(), file.path), 4096));
    text >> commit >> etag >> time;
  } catch (const Error&) {
    etag.clear();
  }
  if (etag.empty() || !S_ISREG(status.st_mode)) {
    throw Error(ErrorKind::usage,
                "there is something else, which was not pulled: it stays, --force or not",
                path.string(), "choose another folder, or move it away yourself");
  }
  if (!force && static_cast<double>(status.st_mtim.tv_sec) > time + 1) {
    throw Error(ErrorKind::usage, "the file was changed since it was pulled", path.string(),
                "choose another folder or add --force");
  }
}

void LocalFolder::note(const RemoteFile& file, const std::string& commit) const {
  const Path path = note_path(state(), file.path);
  create_folders_below(state() / "download", file.path);
  std::error_code ignored;
  if (const Path ignore = state() / ".gitignore"; !std::filesystem::exists(ignore, ignored))
    write_file_atomically(ignore, as_bytes("*"));
  const std::string text =
      commit + "\n" + file.etag + "\n" + std::to_string(std::time(nullptr)) + "\n";
  write_file_atomically(path, as_bytes(text));
}

void LocalFolder::check_name(const RemoteFile& file) {
  std::string first = file.path.substr(0, file.path.find('/'));
  std::transform(first.begin(), first.end(), first.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (first == ".cache")
    throw Error(ErrorKind::verification,
                "the server lists a file that would overwrite the notes of this folder", file.path,
                "pull into the cache instead");
}

}  // namespace qwb::hub
