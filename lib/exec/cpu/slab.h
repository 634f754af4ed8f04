// Weights unpacked a slab at a time, on their way into products of many tokens.
#pragma once

#include "lib/base/threads.h"
#include "lib/codec/weight.h"

namespace qwb {

// Stored rows [begin, end) as f32: in place when they are f32 already, else unpacked into scratch
// of the calling thread.
const float* slab(const Weight& weight, int64_t begin, int64_t end, Threads threads);
// Rows of a slab.
int64_t slab_rows(const Weight& weight);

}  // namespace qwb
