// The calibration activations between the blocks of a model.
#pragma once

#include <cstdint>
#include <functional>

#include "lib/base/context.h"
#include "lib/model/model.h"
#include "lib/quantize/calibrate/activations.h"
#include "lib/quantize/calibrate/calibration.h"

namespace qwb {

// The residual stream of every calibration token, [windows * length, hidden].
class ResidualStream {
 public:
  // Starts as what enters block 0. scratch: see HalfRows.
  ResidualStream(const Model& model, const CalibrationSet& calibration, const Path& scratch = {},
                 const Context& context = {});
  int64_t windows() const { return windows_; }
  int64_t length() const { return length_; }
  // What enters block 0, with this embedding instead of the model's.
  void begin(const Model& model, const CalibrationSet& calibration, const Weight& embedding,
             const Context& context = {});
  // One window, [length, hidden] in the executor's memory.
  void load(int64_t window, Out values) const { rows_.load(window * length_, values); }
  void store(int64_t window, In values) { rows_.store(window * length_, values); }

  // All that is kept, for saving and restoring.
  HalfRows& rows() { return rows_; }
  const HalfRows& rows() const { return rows_; }

 private:
  int64_t windows_;
  int64_t length_;
  HalfRows rows_;
};

// Fewer windows than this go through a block one after the other.
inline constexpr int64_t kManyWindows = 4;
// The windows of a batch, side by side unless they are few: then each on all threads, because long
// windows of wide models would hold too much memory side by side.
void for_windows(const Context& context, int64_t first, int64_t count,
                 const std::function<void(int64_t)>& body);

}  // namespace qwb
