// Random activations and weights of every stored form.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/codec/weight.h"

namespace qwb {

// Within -size and size.
std::vector<float> noise(int64_t count, uint64_t seed, float size = 1);

// Random codes; floats near 0.01, also where a block of ggml's has its halves: no value is NaN,
// whatever place a scale has.
QuantizedTensor random_weight(const WeightLayout& layout, uint64_t seed = 9);

// A weight by the name of its kind ("dense-bf16-T", "grid4-asym-g7", "nf4-double", ...) with random
// codes, and what it refers to.
struct RandomWeight {
  QuantizedTensor quantized;
  Tensor dense;
  Weight weight;
};
RandomWeight random_weight(const std::string& kind, int64_t out, int64_t in, uint64_t seed);

}  // namespace qwb
