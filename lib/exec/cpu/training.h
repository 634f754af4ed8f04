// The fast executor's operations of training.
#pragma once

#include <memory>

#include "lib/exec/training.h"

namespace qwb {

// executor: on the host's memory. products: how operands of products with weights are held.
std::unique_ptr<const TrainingOps> cpu_training(const Executor& executor, Products products);

}  // namespace qwb
