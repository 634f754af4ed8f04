// A model whose weights are frozen and whose low-rank factors are trained: token ids in, losses and
// gradients by the factors out. A block's activations are made anew on the way back (recomputed)
// but for as many of the last blocks as the caller lets it keep.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/stop.h"
#include "lib/codec/source.h"
#include "lib/model/tape/taped_block.h"

namespace qwb {

// Documents that go through the model together. No token of one sees another's.
struct TrainingRows {
  std::vector<int32_t> tokens;     // of all documents, one behind the other
  std::vector<int64_t> documents;  // tokens of each
  // Rows whose output is compared with a target, ascending; factor: what its loss counts in the sum
  // that gradients are of.
  struct Target {
    int64_t row;
    int32_t token;
    float factor;
  };
  std::vector<Target> targets;
  // For each row: what its dropout and its noise depend on. Empty: there are none.
  std::vector<uint64_t> keys;
  // NEFTune (arXiv 2310.05914): uniform noise of up to noise / sqrt(the document's tokens * hidden)
  // is added to every value of an embedding. 0: none.
  double noise = 0;
};

class TapedModel {
 public:
  // Finds and checks every tensor, as Model::load. Keeps the source and the executor.
  TapedModel(std::shared_ptr<const TensorSource> source, const Json& config,
             const std::string& where, std::shared_ptr<const Executor> executor);
  ~TapedModel();

  const ModelConfig& config() const { return config_; }
  const ModelSpec& spec() const { return spec_; }
  const Executor& executor() const { return *executor_; }
  // Every linear module of the blocks, in the order they are computed.
  std::vector<LinearSpec> modules();
  // Factors beside a module from now on; they must outlive their use. Throws not_found.
  void adapt(TrainedFactors& factors);
  // Of a forward pass that keeps the tapes of so many blocks: bytes for so many tokens.
  int64_t tape_bytes(int64_t tokens, int64_t kept_blocks) const;

  // The losses of the targets, nats, in their order. Throws usage for a token outside of the
  // vocabulary or a document too long for the model, `failed` naming the block where NaN or Inf
  // appears, interrupted at a stop.
  std::vector<double> losses(const TrainingRows& rows, const StopToken& stop = {}) const;
  // The same, and adds the gradients of the sum of factor * loss to those of the factors.
  // kept_blocks: the last ones, whose activations are not made twice; at least 1.
  std::vector<double> gradients(const TrainingRows& rows, int64_t kept_blocks,
                                const StopToken& stop = {}) const;

 private:
  struct Pass;
  void check(const TrainingRows& rows) const;
  Matrix embed(const TrainingRows& rows) const;
  void add_noise(const TrainingRows& rows, Out x) const;
  void check_finite(In x, int64_t block) const;
  // hidden [targets, hidden]: what leaves the blocks at these rows, normed; before: not normed.
  Matrix at_targets(const TrainingRows& rows, In x) const;

  std::shared_ptr<const TensorSource> source_;
  std::shared_ptr<const Executor> executor_;
  ModelConfig config_;
  ModelSpec spec_;
  Prepared embedding_, positions_, output_;
  std::unique_ptr<const Norm> final_norm_;
  std::vector<TapedBlock> blocks_;
};

}  // namespace qwb
