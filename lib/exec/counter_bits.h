// Random bits that are a function of numbers alone: the same for any order of work, any number of
// threads and any device. splitmix64's finalizer.
#pragma once

#include <cstdint>

namespace qwb {

constexpr uint64_t mixed_bits(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// The bits of one more number after those of `key`.
constexpr uint64_t counter_bits(uint64_t key, uint64_t number) {
  return mixed_bits(key + 0x9e3779b97f4a7c15u * (number + 1));
}

// Uniform in [0, 1), a multiple of 2^-24.
constexpr float counter_uniform(uint64_t key, uint64_t number) {
  return static_cast<float>(counter_bits(key, number) >> 40) * 0x1p-24f;
}

}  // namespace qwb
