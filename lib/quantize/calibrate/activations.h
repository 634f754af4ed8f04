// What the calibration pipeline keeps of every token between two input groups of a block.
#pragma once

#include <cstdint>
#include <memory>

#include "lib/base/file.h"
#include "lib/exec/calibration.h"
#include "lib/exec/executor.h"
#include "lib/tensor/tensor.h"

namespace qwb {

// Rows of activations in 16 bits (CalibrationOps::to_halves; relative rounding 2^-11, and the
// quantization that follows errs by 10^-2 and more). In the executor's memory where that has room
// (CalibrationOps::holds), else in the host's, or in a nameless file of the scratch folder for
// those that do not fit. Threads may work on different rows.
class HalfRows {
 public:
  // scratch empty: in memory. Throws failed if the file cannot be made or the disk is full.
  HalfRows(const Executor& executor, int64_t rows, int64_t columns, const Path& scratch = {});
  ~HalfRows();
  HalfRows(const HalfRows&) = delete;
  HalfRows& operator=(const HalfRows&) = delete;

  // From and to the executor's memory: dense rows of columns() values.
  void store(int64_t first_row, In values);
  void load(int64_t first_row, Out values) const;
  // The rows as they are kept, [rows, columns] f16 and [rows] f32: what save and restore need.
  void read_raw(int64_t first_row, int64_t rows, std::byte* halves, float* scales) const;
  void write_raw(int64_t first_row, int64_t rows, const std::byte* halves, const float* scales);
  // Other values, of at most as many columns as at first: the memory is used again.
  void reshape(int64_t columns);
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  bool on_disk() const { return file_ >= 0; }
  static int64_t bytes(int64_t rows, int64_t columns) { return rows * (columns * 2 + 4); }

 private:
  int64_t rows_of_piece() const;
  // From a row on, where they lie.
  Halves from_row(int64_t row) const;
  bool on_device() const { return scales_there_.rows() > 0; }
  // Some rows on the device as matrices: two halves in an f32 each.
  Out raw_there(int64_t first_row, int64_t rows) const;
  Out scales_there(int64_t first_row, int64_t rows) const;

  const Executor& executor_;
  int64_t rows_, columns_, room_;  // room for so many columns
  int file_ = -1;
  AlignedBuffer halves_;  // empty if they are in the file or on the device
  FloatBuffer scales_;
  Matrix halves_there_, scales_there_;  // on the device
};

}  // namespace qwb
