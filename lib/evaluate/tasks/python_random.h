// Python's random.Random, as far as random.sample needs it: few-shot examples are then the ones
// that lm-eval draws. Matsumoto and Nishimura's MT19937 seeded by its init_by_array; _randbelow and
// sample as in CPython
// 3.11's Lib/random.py.
#pragma once

#include <cstdint>
#include <vector>

namespace qwb {

class PythonRandom {
 public:
  // random.Random(seed); seed below 2^32.
  explicit PythonRandom(uint32_t seed);
  // random.sample(range(population), count). Throws usage if count is larger.
  std::vector<int64_t> sample(int64_t population, int64_t count);

 private:
  uint32_t next();
  int64_t below(int64_t bound);
  static constexpr int kWords = 624;
  uint32_t state_[kWords] = {};
  int place_ = kWords;
};

}  // namespace qwb
