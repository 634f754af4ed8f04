// A gated or plain MLP: down(act(gate(h)) * up(h)), or down(act(up(h))). Gate and up may be one
// module.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/model/linear.h"

namespace qwb {

class Mlp {
 public:
  Mlp(const MlpSpec& spec, const TensorSource& source, const Executor& executor);

  // The input of the down projection, [rows, intermediate], from h [rows, hidden].
  void inner(const LayerContext& layer, const Rows& h, Out inner) const;
  // The projection whose output leaves the sublayer.
  const Linear& closing() const { return down_; }
  // In the order they are computed.
  std::vector<Linear*> linears();

 private:
  // What an executor computes together cannot be: the additions come before the activation.
  void inner_of_adapted(const LayerContext& layer, const Rows& h, Out inner) const;
  void inner_of_fused(const LayerContext& layer, const Rows& h, Out inner) const;

  std::optional<Linear> gate_;
  Linear up_, down_;
  bool fused_;
};

}  // namespace qwb
