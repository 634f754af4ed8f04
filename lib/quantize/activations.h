// What the calibration pipeline keeps of every token between two input groups of a block.
#pragma once

#include <cstdint>
#include <memory>

#include "lib/base/file.h"
#include "lib/tensor/tensor.h"

namespace qwb {

// Rows of activations in 16 bits: f16 after division by a power of two per row that brings the
// largest magnitude below 2^15, so that no row overflows and every value keeps 11 significant bits
// (relative rounding 2^-12; the quantization that follows errs by 10^-2 and more). In memory, or in
// a nameless file of the scratch folder for those that do not fit. Threads may work on different
// rows.
class HalfRows {
 public:
  // scratch empty: in memory. Throws failed if the file cannot be made or the disk is full.
  HalfRows(int64_t rows, int64_t columns, const Path& scratch = {});
  ~HalfRows();
  HalfRows(const HalfRows&) = delete;
  HalfRows& operator=(const HalfRows&) = delete;

  void store(int64_t first_row, int64_t rows, const float* values);
  void load(int64_t first_row, int64_t rows, float* values) const;
  // The rows as they are kept, [rows, columns] f16 and [rows] f32: what save and restore need.
  void read_raw(int64_t first_row, int64_t rows, std::byte* halves, float* scales) const;
  void write_raw(int64_t first_row, int64_t rows, const std::byte* halves, const float* scales);
  // Other values, of at most as many columns as at first: the memory is used again.
  void reshape(int64_t columns);
  int64_t rows() const { return scales_.size(); }
  int64_t columns() const { return columns_; }
  bool on_disk() const { return file_ >= 0; }
  static int64_t bytes(int64_t rows, int64_t columns) { return rows * (columns * 2 + 4); }

 private:
  int64_t columns_, room_;  // room for so many columns
  int file_ = -1;
  AlignedBuffer halves_;  // empty if they are in the file
  FloatBuffer scales_;
};

}  // namespace qwb
