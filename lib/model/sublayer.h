// One step of a block: x += scale * after(mixer(before(x))), x being the residual stream.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "lib/model/attention.h"
#include "lib/model/input_group.h"
#include "lib/model/mlp.h"
#include "lib/model/moe.h"
#include "lib/model/parallel.h"

namespace qwb {

class Sublayer {
 public:
  Sublayer(const ModelConfig& config, const SublayerSpec& spec, const TensorSource& source,
           const Executor& executor);

  // rows(): the tokens that the group's readers see, where that is not all of them. x: [tokens,
  // hidden].
  std::vector<int64_t> rows(const LayerContext& layer, const InputGroup& group, In x) const;
  // input [tokens, group.in()]: what the readers of the group read when x enters the sublayer;
  // where they see the tokens of an expert, [only.size(), group.in()].
  void input(const LayerContext& layer, const InputGroup& group, In x, const Batch& batch,
             const std::vector<int64_t>& only, Out input) const;
  // x goes on with the output of the module that closes the sublayer.
  void leave(const LayerContext& layer, const Rows& input, Out x) const;
  // x goes through the whole sublayer. h [tokens, hidden] and inner [tokens, inner_size()] are
  // scratch.
  void advance(const LayerContext& layer, const Batch& batch, Out h, Out inner, Out x) const;
  // Columns of the input of the closing module; where there is none, of the sum.
  int64_t inner_size(const ModelConfig& config) const;
  // False for experts, and attention and MLP beside each other: what leaves them is more than one
  // module's output.
  bool has_closing() const {
    return std::holds_alternative<Attention>(mixer_) || std::holds_alternative<Mlp>(mixer_);
  }
  // Whether it needs a cache.
  bool attends() const {
    return std::holds_alternative<Attention>(mixer_) || std::holds_alternative<Parallel>(mixer_);
  }

  std::vector<Linear*> linears();
  // Of the residual stream.
  std::vector<Norm*> norms();
  // Those and what the mixer has.
  std::vector<const Norm*> all_norms() const;

 private:
  // h = before(x), or x.
  void enter(const LayerContext& layer, In x, Out h) const;
  void add(const LayerContext& layer, Out output, Out x) const;

  Norm before_, after_;
  std::variant<Attention, Mlp, Moe, Parallel> mixer_;
};

}  // namespace qwb
