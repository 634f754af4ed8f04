// Keys and values from one cache to another.
#pragma once

#include <cstdint>

#include "lib/model/model.h"

namespace qwb::serve {

// `to` holds the first `length` tokens of `from`, of the same model, instead of its own. `from` has
// so many, and they fit.
void copy_cache(const Model& model, KvCache& from, int64_t length, KvCache& to);

}  // namespace qwb::serve
