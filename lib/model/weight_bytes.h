// How much memory the weights of a loaded model take, told apart by where they lie.
#pragma once

#include <cstdint>
#include <set>

#include "lib/codec/weight.h"

namespace qwb {

struct WeightBytes {
  int64_t mapped = 0;      // in mapped files: the system may drop and reload these pages
  int64_t copied = 0;      // repacked or converted on loading
  int64_t vectors = 0;     // norms and biases, kept as f32
  int64_t parameters = 0;  // numbers of the model, whatever they are stored as
};

// Adds up weights; one that is used twice (a tied embedding) counts once.
class WeightCount {
 public:
  void add(const Weight& weight);
  void add_floats(int64_t count) {
    bytes_.vectors += count * static_cast<int64_t>(sizeof(float));
    bytes_.parameters += count;
  }
  const WeightBytes& bytes() const { return bytes_; }

 private:
  std::set<const void*> seen_;
  WeightBytes bytes_;
};

}  // namespace qwb
