// Arithmetic of conversions: scales in a narrower type, whole matrices, distances between two forms
// of a weight.
#pragma once

#include <optional>

#include "lib/base/context.h"
#include "lib/codec/weight.h"

namespace qwb {

struct NarrowScales {
  int64_t lossy = 0;              // scales that lose bits
  float first_lossy = 0;          // one of them
  std::optional<float> overflow;  // a scale that becomes infinite
  double lost = 0;                // the share of the scales' squares that is lost
};
// What happens to scales in `type` (F16, BF16, F32); stores them in `out` unless it is null.
NarrowScales narrow_scales(const TensorView& scales, DType type, std::byte* out);

// The matrix as f32 [out, in], whatever its orientation.
FloatBuffer read_out_in_f32(const Weight& weight, const Context& context = {});

// Throws `failed`, naming the module or tensor, if a value or a scale is NaN or Inf: no format
// would hold a model then.
void require_finite(const float* values, int64_t count, const std::string& name);
void require_finite(const Weight& weight, const std::string& name, const Context& context);
// On the calling thread: for a piece of a tensor. Types other than floats pass.
void require_finite(const TensorView& piece, const std::string& name);

// |A - B|^2 / |A|^2 for two weights of one orientation; B null: A with its values rounded to
// `narrowed`. Sums in f64, row by row: the same on any number of threads.
double weight_distance(const Weight& a, const Weight* b, DType narrowed,
                       const Context& context = {});

}  // namespace qwb
