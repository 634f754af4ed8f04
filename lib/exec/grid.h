// Integer grids, as rtn, gptq and awq choose them: one scale and zero point per output channel and
// group of input channels (IntegerGrid in lib/codec/integer_grid.h). All arithmetic is f32 with
// round-half-to-even; codes are computed with the scale as it is stored.
//
//   symmetric    scale = absmax / (2^(b-1) - 1)     zero = 2^(b-1)
//   asymmetric   scale = (high - low) / (2^b - 1)   zero = clamp(round(-low / scale), 0, 2^b - 1)
//                with low <= 0 <= high
//   both         code  = clamp(round(w / scale), -zero, 2^b - 1 - zero) + zero
//                w'    = (code - zero) * scale
//
// A group of zeros has scale 1. A scale that is subnormal in its stored type is rounded up, so that
// it never becomes 0 and nothing clips.
#pragma once

#include <cstdint>
#include <string>

#include "lib/tensor/tensor.h"

namespace qwb {

// What the codes of a grid stand for; of floats: float_grid.h.
enum class GridPoints { integers, e2m1, e4m3 };

struct GridSettings {
  int bits = 4;
  int64_t group_size = 128;  // 1 .. in: "per channel" is already the row's length here
  bool symmetric = true;
  DType scale_dtype = DType::f16;
  GridPoints points = GridPoints::integers;
  float outer = 1;  // of floats: scales in F8_E4M3 are divided by this power of two
  int max_code() const { return (1 << bits) - 1; }
  int64_t groups(int64_t in) const { return ceil_div(in, group_size); }
};

struct Grid {
  float scale = 1;
  int zero = 0;
};

inline float grid_value(uint8_t code, const Grid& grid) {  // of integers
  return static_cast<float>(static_cast<int>(code) - grid.zero) * grid.scale;
}

// The scale as its type holds it. Throws failed, naming the module, if it overflows; scale is
// finite and >= 0, and 0 gives 1.
float stored_scale(float scale, DType type, const std::string& module);
// The grid that covers [low, high], low <= 0 <= high.
Grid make_grid(float low, float high, const GridSettings& settings, const std::string& module);
// The grid that covers the values.
Grid make_grid(const float* values, int64_t count, const GridSettings& settings,
               const std::string& module);
// Codes 0 .. 2^bits - 1. Of integers.
void round_to_grid(const float* values, int64_t count, const Grid& grid, int max_code,
                   uint8_t* codes);
// difference = w - Q(w s) / s for one row, the grid covering each group; s null: all ones.
void rounding_difference(const float* weight, int64_t columns, const float* scales,
                         const GridSettings& settings, const std::string& module,
                         float* difference);

}  // namespace qwb
