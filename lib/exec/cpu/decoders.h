// The fast decoders of the codecs, one file each (decode_*.cpp). A codec without one is decoded by
// its own plain loops.
#pragma once

#include <cstdint>

#include "lib/codec/weight.h"

namespace qwb {

// The vectors that a row is multiplied with: y[v * y_stride] = dot of x + v * stride.
struct Vectors {
  const float* x;
  int64_t count, stride;
  float* y;
  int64_t y_stride;

  // dot(x): the product with one of them. Returns true.
  template <class Dot>
  bool each(const Dot& dot) const {
    for (int64_t v = 0; v < count; ++v) y[v * y_stride] = dot(x + v * stride);
    return true;
  }
};

// Everything runs in the calling thread, for weights of its codec that have passed check_weight.
class Decoder {
 public:
  virtual ~Decoder() = default;
  // Rows [begin, end) of the stored matrix as f32 [end - begin, columns].
  virtual void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const = 0;
  // Columns [first, first + count) of one row.
  virtual void part(const Weight& weight, int64_t row, int64_t first, int64_t count,
                    float* out) const;
  // Multiplies a row without unpacking it into memory, or returns false. scratch: a row's floats.
  virtual bool dot(const Weight& /*weight*/, int64_t /*row*/, const Vectors& /*vectors*/,
                   float* /*scratch*/) const {
    return false;
  }
};

const Decoder& decoder_of(const Weight& weight);

// One each, made where they are written.
const Decoder& dense_decoder();
const Decoder& integer_grid_decoder();
const Decoder& int8_rows_decoder();
const Decoder& float_blocks_decoder();
const Decoder& ggml_blocks_decoder();

// Values [first, first + count) of a float tensor as f32.
void decode_floats(const TensorView& values, int64_t first, int64_t count, float* out);

}  // namespace qwb
