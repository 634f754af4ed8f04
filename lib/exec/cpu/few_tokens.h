// Products of one or a few tokens with weights as they are stored: what decoding is made of.
#pragma once

#include <span>

#include "lib/base/threads.h"
#include "lib/codec/weight.h"
#include "lib/exec/executor.h"

namespace qwb {

// y [tokens, out] = x W^T, or y += that. The weight is in the orientation out_in.
struct FewProduct {
  const Weight* weight;
  Out y;
  bool add;
};

// Several weights that read one input, in one parallel loop: every weight is read once. The sums of
// a token do not depend on how many tokens there are, nor on what is multiplied beside it.
void multiply_few(In x, std::span<const FewProduct> products, Threads threads);

}  // namespace qwb
