// One transformer layer: a list of sublayers, and the groups of modules that read one input.
// Calibration looks at each group's input, replaces the modules that read it and goes on: a block
// runs forward only once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/model/sublayer.h"
#include "lib/model/weight_bytes.h"

namespace qwb {

class Block {
 public:
  // Finds and checks all tensors. `index` is the layer's number.
  Block(const ModelConfig& config, const BlockSpec& spec, int64_t index, const TensorSource& source,
        const Backend& backend);

  // In the order they are computed.
  const std::vector<InputGroup>& groups() const { return groups_; }
  const Weight& weight(const std::string& module) const;
  // Packs all weights for the backend's products (Backend::pack); the memory must outlive their
  // use.
  std::vector<AlignedBuffer> pack_weights();
  // Goes on with another weight of the same shape (the view's owner must outlive its use).
  void set_weight(const std::string& module, const Weight& weight);
  // Adds everything that this block holds.
  void count_weights(WeightCount& count) const;
  // Empty if the module has none.
  const std::vector<float>& bias(const std::string& module) const;
  void set_bias(const std::string& module, const std::vector<float>& bias);
  // A norm of the residual stream, its values as a checkpoint stores them. bias: empty exactly if
  // it has none.
  void set_norm(const std::string& module, const std::vector<float>& gain,
                const std::vector<float>& bias);

  // x [tokens, hidden] is the residual stream of one sequence where it enters the group's sublayer.
  // The tokens that the readers of an expert's group see.
  std::vector<int64_t> rows(const InputGroup& group, const float* x, int64_t tokens) const;
  // input [tokens, group.in()]: what the readers of the group read; for an expert's group
  // [only.size(), group.in()], of these tokens. The cache is used by groups that close an
  // attention.
  void input(const InputGroup& group, const float* x, const SequencePart& part,
             const std::vector<int64_t>& only, float* input) const;
  // x leaves the sublayer: by the output of its closing module, or computed from its beginning.
  void leave(size_t sublayer, const float* closing_input, int64_t tokens, float* x) const;
  void advance(size_t sublayer, const SequencePart& part, float* x) const;
  // Whether the first way exists.
  bool has_closing(size_t sublayer) const { return sublayers_[sublayer].has_closing(); }

  // x goes through all sublayers.
  void forward(float* x, const SequencePart& part) const;

 private:
  LayerContext layer() const { return {config_, backend_, index_}; }
  std::vector<Linear*> linears();
  Linear& find(const std::string& module);

  const ModelConfig& config_;
  const Backend& backend_;
  int64_t index_;
  std::vector<InputGroup> groups_;
  std::vector<Sublayer> sublayers_;
};

}  // namespace qwb
