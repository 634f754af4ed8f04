// The fast executor's losses.
#pragma once

#include "lib/exec/cpu/linear.h"

namespace qwb {

// As Executor::losses, x in the host's memory. Throws unsupported for a weight stored [in, out].
void token_losses(const LinearWays& ways, In x, const Weight& weight,
                  std::span<const int32_t> targets, const LogitShape& shape,
                  std::span<double> losses);

}  // namespace qwb
