// A file that is being downloaded in pieces, and the note of how much of each piece is there. Both
// live in one file, so that they cannot come apart: the content's bytes at their final offsets,
// behind them (at the size rounded up to 8) the note. All numbers are little-endian int64:
//
//   magic "qwbpart1" | size | bytes a piece | done of piece 0 | done of piece 1 | ...
//
// `done` counts from the piece's beginning and is written after the bytes that it counts: whatever
// instant a process is killed at, everything that the note claims is there. (After a power failure
// the note may have reached the disk before the bytes; then the hash differs and the download
// begins anew.) A file of exactly `size` bytes is complete, its note already cut off. Bytes that
// `done` counts are never written again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/file.h"

namespace qwb::hub {

class Partial {
 public:
  // Opens or creates the file. A file that does not fit (another size, a damaged note) counts as
  // absent. Throws `failed`.
  static Partial open(const Path& path, int64_t size);
  // How many bytes open() would find; 0 without such a file.
  static int64_t present_in(const Path& path, int64_t size);
  Partial(Partial&& other) noexcept;
  Partial& operator=(Partial&& other) noexcept;
  ~Partial();

  const Path& path() const { return path_; }
  int fd() const { return fd_; }
  int64_t size() const { return size_; }
  int64_t piece_count() const { return static_cast<int64_t>(done_.size()); }
  int64_t piece_begin(int64_t piece) const { return piece * piece_bytes_; }
  int64_t piece_end(int64_t piece) const;
  // The first byte of a piece that is missing; piece_end() if none.
  int64_t piece_next(int64_t piece) const { return piece_begin(piece) + done_[piece]; }
  // Bytes there without a gap from the beginning, and bytes there in all.
  int64_t prefix() const;
  int64_t present() const;

  // Takes the bytes of the content from `position` on, which may be there already and may belong to
  // several pieces; those behind a gap of their piece are dropped. Returns how many were new.
  // Throws `failed` (disk full, say).
  int64_t accept(int64_t position, Bytes data);
  // Nothing is there.
  void reset();
  // Called when the content is complete and verified: cuts the note off and flushes to the disk.
  void seal();

 private:
  Partial(Path path, int fd, int64_t size);
  int64_t note_offset() const { return (size_ + 7) / 8 * 8; }
  bool read_note();
  void write_note();
  void write_at(int64_t offset, Bytes data);

  Path path_;
  int fd_ = -1;
  int64_t size_ = 0;
  int64_t piece_bytes_ = 0;
  std::vector<int64_t> done_;
};

// Reads up to into.size() bytes of a file descriptor at `offset`; fewer at the end only. Throws
// `failed` naming `path`.
int64_t read_at(int fd, int64_t offset, MutableBytes into, const Path& path);

}  // namespace qwb::hub
