// Which tokens go to which experts, apart from what a model runs them through.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/model/moe.h"

namespace qwb {

// By expert, from the router's scores [tokens, experts]: each token goes to the `used` highest, of
// equal ones to the lower number, weighted by the softmax over those (normalized) or over all.
std::vector<Routed> routes_of(const std::vector<float>& scores, int64_t experts, int64_t used,
                              bool normalized);

}  // namespace qwb
