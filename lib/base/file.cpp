#include "lib/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>
#include <vector>

#include "lib/base/file_kind.h"
#include "lib/base/hash.h"
#include "lib/base/mapped_ranges.h"
#include "lib/base/pending_file.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

// An open descriptor that closes itself.
struct Descriptor {
  int fd;
  explicit Descriptor(int value) : fd(value) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
};

// Bytes handed to the system in one call. 56 MB at once, from huge pages, took ext4 of Linux 6 five
// to twelve times as long as in pieces of 1 MB: it then makes huge folios of its cache.
constexpr size_t kWrittenAtOnce = size_t{1} << 20;

void write_all(int fd, int64_t offset, Bytes content, const Path& path) {
  for (int64_t at = offset; !content.empty();) {
    const ssize_t done = ::pwrite(fd, content.data(), std::min(content.size(), kWrittenAtOnce), at);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw system_error("cannot write", path.string(), errno);
    content = content.subspan(static_cast<size_t>(done));
    at += done;
  }
}

// The disk may begin to write these bytes while more are computed, so that the flush at the end
// finds little left (a fifth of the time of int8). That flush reports errors.
void start_writing_back(int fd, int64_t offset, size_t size) {
  if (size >= kWrittenAtOnce)
    ::sync_file_range(fd, offset, static_cast<off_t>(size), SYNC_FILE_RANGE_WRITE);
}

void sync_or_throw(int fd, const Path& path) {
  if (::fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP)
    throw system_error("cannot flush to disk", path.string(), errno);
}

}  // namespace

struct MappedFile::Mapping {
  Path path;
  void* data = nullptr;
  size_t size = 0;
  ~Mapping() {
    if (data == nullptr) return;
    forget_mapped_range(data);
    ::munmap(data, size);
  }
};

MappedFile MappedFile::open(const Path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) throw system_error("cannot open", path.string(), errno);
  struct stat status {};
  if (::fstat(file.fd, &status) != 0) throw system_error("cannot stat", path.string(), errno);
  if (!S_ISREG(status.st_mode)) throw Error(ErrorKind::failed, "not a regular file", path.string());
  auto mapping = std::make_shared<Mapping>();
  mapping->path = path;
  mapping->size = static_cast<size_t>(status.st_size);
  if (mapping->size > 0) {
    void* data = ::mmap(nullptr, mapping->size, PROT_READ, MAP_SHARED, file.fd, 0);
    if (data == MAP_FAILED) throw system_error("cannot map", path.string(), errno);
    mapping->data = data;
    note_mapped_range(data, mapping->size);
  }
  MappedFile result;
  result.mapping_ = std::move(mapping);
  return result;
}

Bytes MappedFile::bytes() const {
  if (!mapping_) return {};
  return {static_cast<const std::byte*>(mapping_->data), mapping_->size};
}

const Path& MappedFile::path() const {
  static const Path none;
  return mapping_ ? mapping_->path : none;
}

namespace {

// Whole pages that touch (prefetch) or lie inside (drop) the part.
void advise(Bytes part, int advice, bool inside) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto at = reinterpret_cast<uintptr_t>(part.data());
  const uintptr_t after = at + part.size();
  const uintptr_t begin = inside ? (at + page - 1) / page * page : at / page * page;
  const uintptr_t end = inside ? after / page * page : (after + page - 1) / page * page;
  if (begin >= end) return;
  auto* const data = const_cast<std::byte*>(part.data());
  ::madvise(data + static_cast<ptrdiff_t>(begin - at), end - begin, advice);
}

}  // namespace

void MappedFile::prefetch(Bytes part) const {
  advise(part, MADV_WILLNEED, false);
}
void MappedFile::drop(Bytes part) const {
  advise(part, MADV_DONTNEED, true);
}

std::string read_text(const Path& path, int64_t max_bytes) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) throw system_error("cannot open", path.string(), errno);
  struct stat status {};
  if (::fstat(file.fd, &status) == 0 && S_ISDIR(status.st_mode))
    throw Error(ErrorKind::failed, "is a folder", path.string());
  std::string text;
  std::vector<char> buffer(1 << 16);
  for (;;) {
    const ssize_t done = ::read(file.fd, buffer.data(), buffer.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw system_error("cannot read", path.string(), errno);
    if (done == 0) break;
    text.append(buffer.data(), static_cast<size_t>(done));
    if (static_cast<int64_t>(text.size()) > max_bytes) {
      throw Error(ErrorKind::failed,
                  "larger than the " + std::to_string(max_bytes) + " bytes allowed here",
                  path.string());
    }
  }
  refuse_lfs_pointer(as_bytes(text), path.string());
  if (path.extension() == ".json") refuse_no_json(text, path.string());
  return text;
}

void write_file_atomically(const Path& path, Bytes content, bool replace) {
  PendingFile pending(path);
  {
    const Path& temporary = pending.path();
    const Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file.fd < 0) throw system_error("cannot create", temporary.string(), errno);
    write_all(file.fd, 0, content, path);
    sync_or_throw(file.fd, path);
  }
  pending.commit(replace);
}

void place_file(const Path& temporary, const Path& path, bool replace) {
  int status =
      replace ? ::rename(temporary.c_str(), path.c_str())
              : ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE);
  if (status != 0 && !replace &&
      (errno == EINVAL || errno == ENOSYS)) {  // not known to this file system
    status = ::link(temporary.c_str(), path.c_str());
    if (status == 0) ::unlink(temporary.c_str());
    if (status != 0 && errno != EEXIST) status = ::rename(temporary.c_str(), path.c_str());
  }
  if (status != 0 && errno == EEXIST)
    throw Error(ErrorKind::usage, "the file exists", path.string(),
                "choose another name or add --force");
  if (status != 0) throw system_error("cannot rename to", path.string(), errno);
  sync_folder(path.parent_path().empty() ? Path(".") : path.parent_path());
}

OutputFile OutputFile::create(const Path& path, int64_t size) {
  OutputFile file;
  file.path_ = path;
  file.fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file.fd_ < 0) throw system_error("cannot create", path.string(), errno);
  if (size > 0) {
    const int status = ::posix_fallocate(file.fd_, 0, size);
    if (status == ENOSPC || status == EDQUOT || status == EFBIG) {
      ::unlink(path.c_str());
      throw system_error("cannot reserve " + std::to_string(size) + " bytes", path.string(),
                         status);
    }
    if (status != 0 && ::ftruncate(file.fd_, size) != 0)
      throw system_error("cannot size", path.string(), errno);
  }
  return file;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}
OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}
OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OutputFile::write(int64_t offset, Bytes content) {
  write_all(fd_, offset, content, path_);
  start_writing_back(fd_, offset, content.size());
}

void OutputFile::finish() {
  if (fd_ < 0) return;
  sync_or_throw(fd_, path_);
  if (::close(std::exchange(fd_, -1)) != 0)
    throw system_error("cannot close", path_.string(), errno);
}

void sync_folder(const Path& folder) {
  const Descriptor handle(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (handle.fd >= 0) ::fsync(handle.fd);
}

int64_t free_disk_space(const Path& path) {
  Path at = fs::absolute(path);
  std::error_code error;
  while (!fs::exists(at, error) && at.has_parent_path() && at != at.parent_path())
    at = at.parent_path();
  struct statvfs status {};
  if (::statvfs(at.c_str(), &status) != 0)
    throw system_error("cannot ask for free space", at.string(), errno);
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

}  // namespace qwb
