// The fast backend's attention.
#pragma once

#include "lib/kernels/backend.h"
#include "lib/kernels/matmul.h"

namespace qwb {

// As Backend::attention. products: how operands are held if the queries are many.
void attend(const float* queries, const float* keys, const float* values,
            const AttentionShape& shape, Products products, float* out, Threads threads);

}  // namespace qwb
