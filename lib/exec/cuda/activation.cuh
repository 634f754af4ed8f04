// act(x) of lib/exec/executor.h.
#pragma once

namespace qwb::cuda {

// In the order of qwb::Activation.
enum Act : int { silu, gelu_tanh, gelu_erf, quick_gelu, relu };

__device__ inline float act(int activation, float x) {
  switch (activation) {
    case silu:
      return x / (1.0f + expf(-x));
    case gelu_tanh: {
      const float cubic = fmaf(x * x, 0.044715f, 1.0f) * x;
      return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * cubic));
    }
    case gelu_erf:
      return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case quick_gelu:
      return x / (1.0f + expf(-1.702f * x));
    default:
      return x > 0.0f || x != x ? x : 0.0f;
  }
}

}  // namespace qwb::cuda
