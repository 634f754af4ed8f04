// The fast executor's attention of training: a whole sequence, with what its gradient needs.
#pragma once

#include "lib/exec/training.h"

namespace qwb {

// As TrainingOps::attention and attention_back, operands in the host's memory.
void attend_kept(In queries, In keys, In values, const AttentionShape& shape, Out y, Out sums,
                 Threads threads);
struct AttentionGradients {
  Out queries, keys, values;
};
void attend_back(const Attended& kept, const AttentionShape& shape, In dy,
                 const AttentionGradients& gradients, Threads threads);

}  // namespace qwb
