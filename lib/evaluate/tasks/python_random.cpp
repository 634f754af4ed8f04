#include "lib/evaluate/tasks/python_random.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <set>

#include "lib/base/error.h"

namespace qwb {

PythonRandom::PythonRandom(uint32_t seed) {
  const auto spread = [this](int i) { return state_[i - 1] ^ (state_[i - 1] >> 30); };
  state_[0] = 19'650'218u;
  for (int i = 1; i < kWords; ++i)
    state_[i] = 1'812'433'253u * spread(i) + static_cast<uint32_t>(i);
  int i = 1;
  const auto step = [&] {
    if (++i < kWords) return;
    state_[0] = state_[kWords - 1];
    i = 1;
  };
  for (int k = 0; k < kWords; ++k) {
    state_[i] = (state_[i] ^ (spread(i) * 1'664'525u)) + seed;
    step();
  }
  for (int k = 0; k < kWords - 1; ++k) {
    state_[i] = (state_[i] ^ (spread(i) * 1'566'083'941u)) - static_cast<uint32_t>(i);
    step();
  }
  state_[0] = 0x80000000u;
}

uint32_t PythonRandom::next() {
  if (place_ == kWords) {
    for (int k = 0; k < kWords; ++k) {
      const uint32_t y = (state_[k] & 0x80000000u) | (state_[(k + 1) % kWords] & 0x7fffffffu);
      state_[k] = state_[(k + 397) % kWords] ^ (y >> 1) ^ ((y & 1) != 0 ? 0x9908b0dfu : 0u);
    }
    place_ = 0;
  }
  uint32_t y = state_[place_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

int64_t PythonRandom::below(int64_t bound) {
  const auto bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(bound)));
  for (;;) {
    const int64_t value = next() >> (32 - bits);
    if (value < bound) return value;
  }
}

std::vector<int64_t> PythonRandom::sample(int64_t population, int64_t count) {
  if (count > population || count < 0 || population >= int64_t{1} << 32)
    throw Error(ErrorKind::usage,
                "cannot draw " + std::to_string(count) + " of " + std::to_string(population));
  std::vector<int64_t> result;
  // Python takes a set where it needs less memory than a copy of the population.
  double set_size = 21;
  if (count > 5)
    set_size +=
        std::pow(4.0, std::ceil(std::log(3.0 * static_cast<double>(count)) / std::log(4.0)));
  if (static_cast<double>(population) <= set_size) {
    std::vector<int64_t> pool(static_cast<size_t>(population));
    std::iota(pool.begin(), pool.end(), int64_t{0});
    for (int64_t i = 0; i < count; ++i) {
      const auto j = static_cast<size_t>(below(population - i));
      result.push_back(pool[j]);
      pool[j] = pool[population - i - 1];
    }
    return result;
  }
  std::set<int64_t> taken;
  while (std::ssize(result) < count) {
    const int64_t j = below(population);
    if (taken.insert(j).second) result.push_back(j);
  }
  return result;
}

}  // namespace qwb
