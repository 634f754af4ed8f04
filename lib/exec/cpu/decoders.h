// The fast decoders of the codecs, one file each (decode_*.cpp). A codec without one is decoded by
// its own plain loops.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/codec/weight.h"
#include "lib/exec/cpu/packed_dot.h"

namespace qwb {

// Everything runs in the calling thread, for weights of its codec that have passed check_weight.
class Decoder {
 public:
  virtual ~Decoder() = default;
  // Rows [begin, end) of the stored matrix as f32 [end - begin, columns].
  virtual void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const = 0;
  // Columns [first, first + count) of one row.
  virtual void part(const Weight& weight, int64_t row, int64_t first, int64_t count,
                    float* out) const;
  // How the rows of a weight in the orientation out_in can be multiplied without unpacking them
  // into memory, or nothing.
  virtual std::optional<simd::PackedRows> packed(const Weight& /*weight*/) const { return {}; }
};

const Decoder& decoder_of(const Weight& weight);

// One each, made where they are written.
const Decoder& dense_decoder();
const Decoder& integer_grid_decoder();
const Decoder& int8_rows_decoder();
const Decoder& float_blocks_decoder();
const Decoder& ggml_blocks_decoder();
const Decoder& fp8_blocks_decoder();
const Decoder& fp4_groups_decoder();
const Decoder& merged_decoder();

// Values [first, first + count) of a float tensor as f32.
void decode_floats(const TensorView& values, int64_t first, int64_t count, float* out);

}  // namespace qwb
