#include "lib/hub/partial.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "lib/base/error.h"

namespace qwb::hub {
namespace {

constexpr int64_t kMagic = 0x3174726170627771;  // "qwbpart1"
constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kHeaderWords = 3;

// Pieces small enough that several connections find work and the hash follows closely, large enough
// that a request for each costs nothing.
int64_t choose_piece_bytes(int64_t size) {
  return std::clamp(ceil_div(size, 64 * kMiB) * kMiB, 8 * kMiB, 64 * kMiB);
}

}  // namespace

int64_t read_at(int fd, int64_t offset, MutableBytes into, const Path& path) {
  int64_t total = 0;
  while (!into.empty()) {
    const ssize_t count = ::pread(fd, into.data(), into.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw system_error("cannot read", path.string(), errno);
    if (count == 0) break;
    into = into.subspan(static_cast<size_t>(count));
    offset += count;
    total += count;
  }
  return total;
}

Partial::Partial(Path path, int fd, int64_t size) : path_(std::move(path)), fd_(fd), size_(size) {
  piece_bytes_ = choose_piece_bytes(size);
}

Partial Partial::open(const Path& path, int64_t size) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0) throw system_error("cannot create", path.string(), errno);
  Partial partial(path, fd, size);
  if (!partial.read_note()) partial.reset();
  return partial;
}

int64_t Partial::present_in(const Path& path, int64_t size) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return 0;
  Partial partial(path, fd, size);
  return partial.read_note() ? partial.present() : 0;
}

Partial::Partial(Partial&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      piece_bytes_(other.piece_bytes_),
      done_(std::move(other.done_)) {}

Partial& Partial::operator=(Partial&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  std::swap(piece_bytes_, other.piece_bytes_);
  std::swap(done_, other.done_);
  return *this;
}

Partial::~Partial() {
  if (fd_ >= 0) ::close(fd_);
}

int64_t Partial::piece_end(int64_t piece) const {
  return std::min(size_, piece_begin(piece) + piece_bytes_);
}

bool Partial::read_note() {
  struct stat status {};
  if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) return false;
  if (status.st_size == size_ && size_ > 0) {
    done_.resize(static_cast<size_t>(ceil_div(size_, piece_bytes_)));
    for (int64_t i = 0; i < piece_count(); ++i) done_[i] = piece_end(i) - piece_begin(i);
    return true;
  }
  int64_t header[kHeaderWords] = {};
  if (read_at(fd_, note_offset(), std::as_writable_bytes(std::span(header)), path_) !=
      sizeof(header))
    return false;
  if (header[0] != kMagic || header[1] != size_ || header[2] < kMiB || header[2] > 1024 * kMiB)
    return false;
  piece_bytes_ = header[2];
  done_.resize(static_cast<size_t>(ceil_div(size_, piece_bytes_)));
  const MutableBytes words = std::as_writable_bytes(std::span(done_));
  if (read_at(fd_, note_offset() + static_cast<int64_t>(sizeof(header)), words, path_) !=
      static_cast<int64_t>(words.size()))
    return false;
  for (int64_t i = 0; i < piece_count(); ++i) {
    const int64_t done = done_[i];
    if (done < 0 || done > piece_end(i) - piece_begin(i)) return false;
  }
  return true;
}

void Partial::write_note() {
  std::vector<int64_t> words = {kMagic, size_, piece_bytes_};
  words.insert(words.end(), done_.begin(), done_.end());
  write_at(note_offset(), std::as_bytes(std::span(words)));
}

void Partial::write_at(int64_t offset, Bytes data) {
  while (!data.empty()) {
    const ssize_t count = ::pwrite(fd_, data.data(), data.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw system_error("cannot write", path_.string(), errno);
    data = data.subspan(static_cast<size_t>(count));
    offset += count;
  }
}

int64_t Partial::prefix() const {
  int64_t piece = 0;
  while (piece < piece_count() && piece_next(piece) == piece_end(piece)) ++piece;
  return piece < piece_count() ? piece_next(piece) : size_;
}

int64_t Partial::present() const {
  int64_t total = 0;
  for (const int64_t done : done_) total += done;
  return total;
}

int64_t Partial::accept(int64_t position, Bytes data) {
  int64_t fresh = 0;
  const int64_t end = std::min(position + static_cast<int64_t>(data.size()), size_);
  for (int64_t at = position; at < end;) {
    const int64_t piece = at / piece_bytes_;
    const int64_t stop = std::min(end, piece_end(piece));
    const int64_t next = piece_next(piece);
    if (at <= next && next < stop) {
      write_at(next, data.subspan(static_cast<size_t>(next - position),
                                  static_cast<size_t>(stop - next)));
      int64_t& done = done_[piece];
      done = stop - piece_begin(piece);
      write_at(note_offset() + (kHeaderWords + piece) * static_cast<int64_t>(sizeof(int64_t)),
               std::as_bytes(std::span(&done, 1)));
      fresh += stop - next;
    }
    at = stop;
  }
  return fresh;
}

void Partial::reset() {
  piece_bytes_ = choose_piece_bytes(size_);
  done_.assign(static_cast<size_t>(ceil_div(size_, piece_bytes_)), 0);
  if (::ftruncate(fd_, 0) != 0) throw system_error("cannot empty", path_.string(), errno);
  write_note();
}

void Partial::seal() {
  if (::ftruncate(fd_, size_) != 0) throw system_error("cannot cut", path_.string(), errno);
  if (::fsync(fd_) != 0 && errno != EINVAL && errno != ENOTSUP)
    throw system_error("cannot flush to disk", path_.string(), errno);
}

}  // namespace qwb::hub
