#include "lib/quantize/activations.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "lib/base/error.h"
#include "lib/exec/cpu/simd.h"

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

HalfRows::HalfRows(int64_t rows, int64_t columns, const Path& scratch)
    : columns_(columns), room_(columns), scales_(rows) {
  const int64_t bytes = checked_mul(rows, columns * 2, "activations");
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

void HalfRows::store(int64_t first_row, int64_t rows, const float* values) {
  const int64_t piece = file_ < 0 ? rows : std::max<int64_t>(1, kPieceBytes / (columns_ * 2));
  AlignedBuffer packed(file_ < 0 ? 0 : std::min(piece, rows) * columns_ * 2);
  for (int64_t begin = 0; begin < rows; begin += piece) {
    const int64_t count = std::min(piece, rows - begin),
                  offset = (first_row + begin) * columns_ * 2;
    std::byte* out = file_ < 0 ? halves_.data() + offset : packed.data();
    for (int64_t r = 0; r < count; ++r, values += columns_) {
      const float largest = simd::max_magnitude(values, columns_);
      int exponent = 0;
      if (largest > 0) std::frexp(largest, &exponent);
      const int shift = std::clamp(exponent - 15, -100, 100);
      scales_[first_row + begin + r] = std::ldexp(1.0f, shift);
      simd::to_f16(values, columns_, std::ldexp(1.0f, -shift), out + r * columns_ * 2);
    }
    if (file_ < 0) continue;
    transfer_all(count * columns_ * 2, offset, "write", [&](int64_t done, size_t size, off_t at) {
      return ::pwrite(file_, packed.data() + done, size, at);
    });
  }
}

void HalfRows::load(int64_t first_row, int64_t rows, float* values) const {
  const int64_t piece = file_ < 0 ? rows : std::max<int64_t>(1, kPieceBytes / (columns_ * 2));
  AlignedBuffer packed(file_ < 0 ? 0 : std::min(piece, rows) * columns_ * 2);
  for (int64_t begin = 0; begin < rows; begin += piece) {
    const int64_t count = std::min(piece, rows - begin),
                  offset = (first_row + begin) * columns_ * 2;
    if (file_ >= 0) {
      transfer_all(count * columns_ * 2, offset, "read", [&](int64_t done, size_t size, off_t at) {
        return ::pread(file_, packed.data() + done, size, at);
      });
    }
    const std::byte* in = file_ < 0 ? halves_.data() + offset : packed.data();
    for (int64_t r = 0; r < count; ++r, values += columns_) {
      simd::from_f16(in + r * columns_ * 2, columns_, scales_[first_row + begin + r], values);
    }
  }
}

void HalfRows::read_raw(int64_t first_row, int64_t rows, std::byte* halves, float* scales) const {
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
