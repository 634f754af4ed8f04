// What the kernels of attention share: their operands, and which keys a query sees.
#pragma once

#include "lib/exec/cuda/queue.cuh"

namespace qwb::cuda {

struct Heads {
  ConstView queries, keys, values;
  Attention shape;
  View y;

  __device__ int64_t position(int64_t query) const { return keys.rows - queries.rows + query; }
  // The first key that a query at this position sees.
  __device__ int64_t begin(int64_t position) const {
    return shape.window > 0 && position >= shape.window ? position - shape.window + 1 : 0;
  }
  __device__ float score(float product) const {
    const float scaled = product * shape.scale;
    return shape.soft_cap == 0 ? scaled : shape.soft_cap * tanhf(scaled / shape.soft_cap);
  }
};

}  // namespace qwb::cuda
