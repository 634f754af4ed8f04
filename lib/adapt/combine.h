// New adapters of others, and of the difference of two models.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lib/adapt/adapter.h"
#include "lib/adapt/bind.h"
#include "lib/adapt/merged_source.h"
#include "lib/base/context.h"
#include "lib/codec/source.h"

namespace qwb {

// What a truncation left of a module.
struct KeptEnergy {
  std::string module;
  int64_t rank = 0;  // of the new factors
  double share = 1;  // of the squares of all values
  double norm = 0;   // Frobenius, before
};
struct CombinedAdapter {
  Adapter adapter;
  std::vector<KeptEnergy> kept = {};
};

// The sum of all, exactly: factors one behind the other, scales and weights folded into B. Throws
// unsupported where an adapter replaces tensors.
Adapter stacked(const std::vector<WeightedAdapter>& adapters);
// The best of that rank: singular values of each module's sum, the smallest cut off. Rank 0: the
// largest rank among the adapters.
CombinedAdapter truncated(const std::vector<WeightedAdapter>& adapters, int64_t rank,
                          const Context& context);
// The difference of the two models' modules, cut off at that rank. Norms, biases and embeddings
// must be equal: throws unsupported, naming the first that differs.
CombinedAdapter extracted(const TensorSource& base, const TensorSource& tuned,
                          const std::vector<AdaptableModule>& modules, int64_t rank,
                          const Context& context);

}  // namespace qwb
