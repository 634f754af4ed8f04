// The moments of the inputs of every group of modules, on the way of the calibration activations
// through a model.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/exec/calibration.h"
#include "lib/exec/executor.h"
#include "lib/model/block.h"
#include "lib/model/model.h"
#include "lib/quantize/calibrate/calibration.h"
#include "lib/quantize/calibrate/residual_stream.h"
#include "lib/quantize/method.h"

namespace qwb {

// What is asked of a group's inputs.
struct MomentsRequest {
  bool moments = false;
  bool drift = false;    // also against the original model's; needs its stream
  bool centred = false;  // the means taken out; with drift only
};

// Memory that the calibrations of all blocks use in turn.
struct CalibrationMemory {
  CalibrationMemory(const Model& model, const CalibrationSet& calibration,
                    const Path& scratch = {});
  HalfRows kept;        // inputs of closing modules, of every token; scratch: see HalfRows
  Matrix inputs, aims;  // of a batch
  std::unique_ptr<MomentSums> sums;
};

// One block's way: for each group observe() its input over all windows, replace() the modules that
// read it; finish() leaves the stream as the quantized block makes it. The streams stay where a
// sublayer begins until all its groups were observed; the original model's goes on with the
// observation that closes a sublayer, so that nothing but the stream itself is kept of it. Sums
// over windows have a fixed order.
class BlockCalibration {
 public:
  // reference: the original model's stream, or null.
  BlockCalibration(const Model& model, int64_t index, ResidualStream& stream,
                   ResidualStream* reference, CalibrationMemory& memory,
                   const Context& context = {});

  const std::vector<InputGroup>& groups() const { return block_.groups(); }
  // Groups in order, each once. The moments live until the next call; those of an expert are sums
  // over the tokens that it saw, which may be none. Throws `failed` naming the block if the inputs
  // are not finite.
  const Moments& observe(size_t group, const MomentsRequest& request);
  // The block goes on with this weight, dequantized, of a module that reads the input observed
  // last.
  void replace(const std::string& module, const Weight& weight);
  void set_bias(const std::string& module, const std::vector<float>& bias);
  // As Block::set_norm; before what reads its output is observed.
  void set_norm(const std::string& module, const std::vector<float>& gain,
                const std::vector<float>& bias);
  void finish();

 private:
  // Where one window's activations go: room for [length, columns].
  struct Places {
    Out input;  // what the quantized model's modules see
    Out aim;    // x* - x or y of Moments; empty if nobody wants it
  };
  struct Gather {
    const InputGroup& group;
    MomentsRequest request;
    int64_t size;      // input channels
    int64_t aim_size;  // columns of the aims
  };
  void collect(const Gather& gather);
  void prepare(const Gather& gather);
  void add_batch(const Gather& gather, int64_t rows);
  int64_t observe_window(const Gather& gather, int64_t window, const Places& out);
  void close_original(const Gather& gather, In x, int64_t window, Out aim);
  void enter(int64_t window, Out x);
  void compact(const std::vector<int64_t>& rows, const Places& batch) const;
  void check_finite(In values) const;
  void shift(Out values, std::vector<float>& offset) const;
  void take_out_means(bool adds);
  void input(const Block& block, const InputGroup& group, In x, const std::vector<int64_t>& only,
             Out out) const;
  // Room for a window's keys and values, or none.
  struct Cache {
    Matrix keys, values;
  };
  Cache cache(bool used) const;
  void advance(const Block& block, size_t sublayer, Out x) const;
  // Room for a window's stream.
  Matrix window() const { return executor_.allocate(stream_.length(), model_.config().hidden); }

  const Model& model_;
  const Executor& executor_;
  const CalibrationOps& ops_;
  ResidualStream& stream_;
  ResidualStream* reference_;
  CalibrationMemory& memory_;
  Context context_;
  Block block_;
  std::optional<Block> original_;
  RotaryTable rotary_;
  Moments moments_;
  Matrix hessian_, cross_;  // sums of x x^T and of the aims with x^T
  // Centred: what was taken out of inputs and aims before the sums, and the sums of what was left.
  std::vector<float> input_offset_, aim_offset_;
  std::vector<double> input_sums_, aim_sums_;
  // Weights put in place, of the modules of sublayers not left yet; and of the sublayer that the
  // observation under way leaves.
  std::map<std::string, AlignedBuffer> replaced_, applied_;
  int64_t index_;
  std::optional<size_t> leaves_;  // the sublayer that the observation under way leaves
  size_t at_ = 0;                 // the sublayer that the streams are at
};

// The moments of what the final norm makes of the streams: the inputs of the output embedding.
class OutputCalibration {
 public:
  OutputCalibration(const Model& model, const ResidualStream& stream,
                    const ResidualStream* reference, const MomentsRequest& request,
                    const Context& context = {});
  const Moments& moments() const { return moments_; }

 private:
  Moments moments_;
  Matrix hessian_, drift_;
};

// Windows that go through a block before their inputs are added to the moments.
int64_t batch_windows(const Executor& executor, int64_t length, int64_t size, int64_t windows);

// Windows that are enough to time a block.
int64_t trial_windows(const Model& model, const CalibrationSet& calibration);

// Bytes that the streams take together, and those of the largest set of kept inputs.
struct ActivationBytes {
  int64_t streams = 0;
  int64_t kept = 0;
};
ActivationBytes activation_bytes(const Model& model, const CalibrationSet& calibration,
                                 bool reference);
// Bytes of memory held at the peak besides these.
int64_t calibration_memory(const Model& model, const CalibrationSet& calibration, bool reference);

}  // namespace qwb
