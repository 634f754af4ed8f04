// The fast executor's attention.
#pragma once

#include "lib/exec/executor.h"

namespace qwb {

// As Executor::attention, operands in the host's memory. products: how operands are held if the
// queries are many.
void attend(In queries, In keys, In values, const AttentionShape& shape, Products products, Out y,
            Threads threads);

}  // namespace qwb
