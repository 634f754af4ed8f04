// Rounding that compilers turn into vector code.
#pragma once

namespace qwb {

// The nearest integer, ties to even, of |x| < 2^22.
inline float round_even(float x) {
  constexpr float kNoFraction = 0x1.8p23f;  // beyond it a float has no bits left for a fraction
  return (x + kNoFraction) - kNoFraction;
}

}  // namespace qwb
