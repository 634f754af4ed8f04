// The calibration activations on their way through a model, and the second moments of every stage's inputs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/model/model.h"
#include "lib/quantize/activations.h"
#include "lib/quantize/calibration.h"
#include "lib/quantize/method.h"

namespace qwb {

// The residual stream of every calibration token, f32 [windows * length, hidden].
class ResidualStream {
 public:
  ResidualStream(const Model& model, const CalibrationSet& calibration);
  int64_t windows() const { return windows_; }
  int64_t length() const { return length_; }
  float* window(int64_t index) const { return values_.data() + index * length_ * hidden_; }

 private:
  int64_t windows_;
  int64_t length_;
  int64_t hidden_;
  FloatBuffer values_;
};

// One block's way: for each stage observe() its input over all windows, replace() the modules that read it;
// finish() leaves the stream as the quantized block makes it. The work is spread over windows, each of which
// runs in one thread; sums over windows have a fixed order.
class BlockCalibration {
 public:
  BlockCalibration(const Model& model, int64_t index, ResidualStream& stream);

  // Stages in order, each once. The moments live until the next call. Throws `failed` naming the block if the
  // inputs are not finite.
  Moments observe(Stage stage);
  // The block goes on with this weight, dequantized to f32.
  void replace(const std::string& module, const Weight& weight);
  void finish();

 private:
  using WindowWork = std::function<void(int64_t window, float* input)>;
  void collect(int64_t size, bool keep, const WindowWork& work);

  const Model& model_;
  ResidualStream& stream_;
  Block block_;
  RotaryTable rotary_;
  FloatBuffer hessian_;
  std::optional<HalfRows> kept_;  // inputs of the stage observed last, when they are dear to compute
  std::vector<FloatBuffer> replaced_;
  int64_t index_;
};

// Bytes held at the peak by both classes for this model and set.
int64_t calibration_memory(const Model& model, const CalibrationSet& calibration);

}  // namespace qwb
