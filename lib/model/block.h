// One transformer layer: a list of sublayers, and the groups of modules that read one input.
// Calibration looks at each group's input, replaces the modules that read it and goes on: a block
// runs forward only once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/model/sublayer.h"
#include "lib/model/weight_bytes.h"

namespace qwb {

class Block {
 public:
  // Finds and checks all tensors. `index` is the layer's number.
  Block(const ModelConfig& config, const BlockSpec& spec, int64_t index, const TensorSource& source,
        const Executor& executor);

  // In the order they are computed.
  const std::vector<InputGroup>& groups() const { return groups_; }
  const Weight& weight(const std::string& module) const;
  // Prepares all weights for frequent use.
  void prepare_often();
  // Goes on with another weight of the same shape (the view's owner must outlive its use), prepared
  // for frequent use.
  void set_weight(const std::string& module, const Weight& weight);
  void set_weight(const std::string& module, Prepared weight);
  // The module's output goes on with this added to it.
  void attach(const std::string& module, std::shared_ptr<const LowRank> addition);
  // Adds everything that this block holds.
  void count_weights(WeightCount& count) const;
  // The module is not used any more: what the executor keeps for its weight goes.
  void release(const std::string& module);
  // Empty if the module has none.
  std::vector<float> bias(const std::string& module) const;
  void set_bias(const std::string& module, const std::vector<float>& bias);
  // A norm of the residual stream, its values as a checkpoint stores them. bias: empty exactly if
  // it has none.
  void set_norm(const std::string& module, const std::vector<float>& gain,
                const std::vector<float>& bias);

  // x [tokens, hidden] is the residual stream of a batch where it enters the group's sublayer.
  // The tokens that the readers of an expert's group see.
  std::vector<int64_t> rows(const InputGroup& group, In x) const;
  // input [tokens, group.in()]: what the readers of the group read; for an expert's group
  // [only.size(), group.in()], of these tokens. The cache is used by groups that close an
  // attention.
  void input(const InputGroup& group, In x, const Batch& batch, const std::vector<int64_t>& only,
             Out input) const;
  // x leaves the sublayer: by the output of its closing module, or computed from its beginning.
  void leave(size_t sublayer, In closing_input, Out x) const;
  void advance(size_t sublayer, const Batch& batch, Out x) const;
  // Whether the first way exists; whether the second one needs a cache.
  bool has_closing(size_t sublayer) const { return sublayers_[sublayer].has_closing(); }
  bool attends(size_t sublayer) const { return sublayers_[sublayer].attends(); }

  // x goes through all sublayers.
  void forward(Out x, const Batch& batch) const;

 private:
  LayerContext layer() const { return {config_, executor_, index_}; }
  std::vector<Linear*> linears();
  Linear& find(const std::string& module);

  const ModelConfig& config_;
  const Executor& executor_;
  int64_t index_;
  std::vector<InputGroup> groups_;
  std::vector<Sublayer> sublayers_;
};

}  // namespace qwb
