// Activations and their slopes in f64 (executor.h says what they are).
#pragma once

#include <algorithm>
#include <cmath>

#include "lib/exec/executor.h"

namespace qwb {

inline double plain_act(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu_tanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::relu:
      return std::max(x, 0.0);
  }
  return x;
}

// d act(x) / dx; of relu at 0: 0.
inline double plain_slope(Activation activation, double x) {
  constexpr double kPi = 3.14159265358979323846;
  switch (activation) {
    case Activation::silu: {
      const double s = 1 / (1 + std::exp(-x));
      return s * (1 + x * (1 - s));
    }
    case Activation::gelu_tanh: {
      const double root = std::sqrt(2 / kPi), t = std::tanh(root * (x + 0.044715 * x * x * x));
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
    }
    case Activation::gelu_erf:
      return 0.5 * (1 + std::erf(x / std::sqrt(2.0))) +
             x * std::exp(-0.5 * x * x) / std::sqrt(2 * kPi);
    case Activation::quick_gelu: {
      const double s = 1 / (1 + std::exp(-1.702 * x));
      return s * (1 + 1.702 * x * (1 - s));
    }
    case Activation::relu:
      return x > 0 ? 1 : 0;
  }
  return 1;
}

}  // namespace qwb
