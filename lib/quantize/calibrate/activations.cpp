#include "lib/quantize/calibrate/activations.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

#include "lib/base/error.h"

namespace qwb {
namespace {

// Rows converted at once on their way from or to the file.
constexpr int64_t kPieceBytes = 1 << 20;

[[noreturn]] void scratch_failed(const std::string& what) {
  throw Error(ErrorKind::failed, what + " calibration activations: " + std::strerror(errno), {},
              "free space in the scratch folder or raise --max-memory");
}

// Nameless from the start where the file system allows it: nothing is left behind by a killed
// process.
int open_scratch(const Path& folder, int64_t bytes) {
  int file = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) {
    std::string name = (folder / "qwb-activations-XXXXXX").string();
    file = ::mkostemp(name.data(), O_CLOEXEC);
    if (file >= 0) ::unlink(name.c_str());
  }
  if (file < 0) scratch_failed("cannot make a file for");
  // A full disk shows now instead of hours later.
  const int code = ::posix_fallocate(file, 0, bytes);
  if (code != 0) {
    ::close(file);
    errno = code;
    scratch_failed("no room for " + std::to_string(bytes >> 20) + " MB of");
  }
  return file;
}

template <typename Transfer>
void transfer_all(int64_t bytes, int64_t offset, const std::string& verb,
                  const Transfer& transfer) {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t count =
        transfer(done, static_cast<size_t>(bytes - done), static_cast<off_t>(offset + done));
    if (count > 0) {
      done += count;
    } else if (count == 0 || errno != EINTR) {
      scratch_failed("cannot " + verb);
    }
  }
}

}  // namespace

HalfRows::HalfRows(const Executor& executor, int64_t rows, int64_t columns, const Path& scratch)
    : executor_(executor), rows_(rows), columns_(columns), room_(columns) {
  const int64_t bytes = checked_mul(rows, columns * 2, "activations");
  // Of an odd width rows would begin between two numbers of 32 bits.
  if (scratch.empty() && columns % 2 == 0 && executor.calibration().holds(bytes)) {
    halves_there_ = executor.allocate(rows, columns / 2);
    scales_there_ = executor.allocate(rows, 1);
    return;
  }
  scales_ = FloatBuffer(rows);
  if (scratch.empty()) {
    halves_ = AlignedBuffer(bytes);
  } else {
    file_ = open_scratch(scratch, std::max<int64_t>(bytes, 1));
  }
}

HalfRows::~HalfRows() {
  if (file_ >= 0) ::close(file_);
}

void HalfRows::reshape(int64_t columns) {
  if (columns > room_) throw std::logic_error("activations wider than their memory");
  columns_ = columns;
}

Halves HalfRows::from_row(int64_t row) const {
  if (!on_device())
    return {const_cast<std::byte*>(halves_.data()) + row * columns_ * 2,
            const_cast<float*>(scales_.data()) + row};
  return {reinterpret_cast<std::byte*>(halves_there_.view().data) + row * columns_ * 2,
          scales_there_.view().data + row, executor_.device()};
}

Out HalfRows::raw_there(int64_t first_row, int64_t rows) const {
  return {halves_there_.view().data + first_row * columns_ / 2, rows, columns_ / 2,
          executor_.device()};
}

Out HalfRows::scales_there(int64_t first_row, int64_t rows) const {
  return scales_there_.view().row_range(first_row, rows);
}

int64_t HalfRows::rows_of_piece() const {
  return std::max<int64_t>(1, kPieceBytes / (columns_ * 2));
}

void HalfRows::store(int64_t first_row, In values) {
  const CalibrationOps& ops = executor_.calibration();
  if (file_ < 0) {
    ops.to_halves(values, from_row(first_row));
    return;
  }
  const int64_t piece = std::min(rows_of_piece(), values.rows);
  const AlignedBuffer packed(piece * columns_ * 2);
  for (int64_t begin = 0; begin < values.rows; begin += piece) {
    const int64_t count = std::min(piece, values.rows - begin), first = first_row + begin;
    ops.to_halves(values.row_range(begin, count), {packed.data(), scales_.data() + first});
    transfer_all(count * columns_ * 2, first * columns_ * 2, "write",
                 [&](int64_t done, size_t size, off_t at) {
                   return ::pwrite(file_, packed.data() + done, size, at);
                 });
  }
}

void HalfRows::load(int64_t first_row, Out values) const {
  const CalibrationOps& ops = executor_.calibration();
  if (file_ < 0) {
    ops.from_halves(from_row(first_row), values);
    return;
  }
  const int64_t piece = std::min(rows_of_piece(), values.rows);
  const AlignedBuffer packed(piece * columns_ * 2);
  for (int64_t begin = 0; begin < values.rows; begin += piece) {
    const int64_t count = std::min(piece, values.rows - begin), first = first_row + begin;
    transfer_all(count * columns_ * 2, first * columns_ * 2, "read",
                 [&](int64_t done, size_t size, off_t at) {
                   return ::pread(file_, packed.data() + done, size, at);
                 });
    ops.from_halves({packed.data(), const_cast<float*>(scales_.data()) + first},
                    values.row_range(begin, count));
  }
}

void HalfRows::read_raw(int64_t first_row, int64_t rows, std::byte* halves, float* scales) const {
  if (on_device()) {
    executor_.copy(raw_there(first_row, rows),
                   Out(reinterpret_cast<float*>(halves), rows, columns_ / 2));
    executor_.copy(scales_there(first_row, rows), Out(scales, rows, 1));
    return;
  }
  const int64_t bytes = rows * columns_ * 2, offset = first_row * columns_ * 2;
  std::copy_n(scales_.data() + first_row, rows, scales);
  if (file_ < 0) {
    std::copy_n(halves_.data() + offset, bytes, halves);
    return;
  }
  transfer_all(bytes, offset, "read", [&](int64_t done, size_t size, off_t at) {
    return ::pread(file_, halves + done, size, at);
  });
}

void HalfRows::write_raw(int64_t first_row, int64_t rows, const std::byte* halves,
                         const float* scales) {
  if (on_device()) {
    executor_.copy(In(reinterpret_cast<const float*>(halves), rows, columns_ / 2),
                   raw_there(first_row, rows));
    executor_.copy(In(scales, rows, 1), scales_there(first_row, rows));
    return;
  }
  const int64_t bytes = rows * columns_ * 2, offset = first_row * columns_ * 2;
  std::copy_n(scales, rows, scales_.data() + first_row);
  if (file_ < 0) {
    std::copy_n(halves, bytes, halves_.data() + offset);
    return;
  }
  transfer_all(bytes, offset, "write", [&](int64_t done, size_t size, off_t at) {
    return ::pwrite(file_, halves + done, size, at);
  });
}

}  // namespace qwb
