// A mixture of experts: a router sends each token to a few of many MLPs; one more may see all.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/model/mlp.h"

namespace qwb {

// Which tokens an expert sees, in ascending order, and what its answers are multiplied with.
struct Routed {
  std::vector<int64_t> tokens;
  std::vector<float> weights;
};

class Moe {
 public:
  Moe(const MoeSpec& spec, const TensorSource& source, const Executor& executor);

  // By expert, for h [tokens, hidden]. Of equal scores the expert of the lower number is taken.
  std::vector<Routed> route(const LayerContext& layer, const Rows& h) const;
  // y [tokens, hidden] = what the experts make of h together. Experts are added in the order of
  // their numbers.
  void forward(const LayerContext& layer, const Rows& h, Out y) const;
  const Mlp& expert(int64_t number) const { return experts_[number]; }
  // The expert that sees every token. Only where there is one.
  const Mlp& shared() const { return *shared_; }
  // In the order they are computed: the router, expert by expert, what sees every token.
  std::vector<Linear*> linears();

 private:
  void add_shared(const LayerContext& layer, const Rows& h, Out y) const;

  Linear router_;
  std::vector<Mlp> experts_;
  int64_t used_;
  bool normalized_;
  std::optional<Mlp> shared_;
  std::optional<Linear> shared_gate_;
};

}  // namespace qwb
