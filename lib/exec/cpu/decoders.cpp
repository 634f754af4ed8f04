#include "lib/exec/cpu/decoders.h"

#include <algorithm>
#include <vector>

#include "lib/codec/dense.h"
#include "lib/codec/float_blocks.h"
#include "lib/codec/fp4_groups.h"
#include "lib/codec/fp8_blocks.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/codec/int8_rows.h"
#include "lib/codec/integer_grid.h"
#include "lib/codec/merged_weight.h"

namespace qwb {
namespace {

class PlainDecoder final : public Decoder {
 public:
  void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const override {
    std::vector<double> values(static_cast<size_t>(weight.columns()));
    for (int64_t row = begin; row < end; ++row) {
      weight.encoding->decode_row(weight, row, values.data());
      out = std::transform(values.begin(), values.end(), out,
                           [](double value) { return static_cast<float>(value); });
    }
  }
};

}  // namespace

void Decoder::part(const Weight& weight, int64_t row, int64_t first, int64_t count,
                   float* out) const {
  std::vector<float> values(static_cast<size_t>(weight.columns()));
  rows(weight, row, row + 1, values.data());
  std::copy_n(values.begin() + first, count, out);
}

const Decoder& decoder_of(const Weight& weight) {
  if (weight.as<DenseWeight>() != nullptr) return dense_decoder();
  if (weight.as<IntegerGrid>() != nullptr) return integer_grid_decoder();
  if (weight.as<FloatBlocks>() != nullptr) return float_blocks_decoder();
  if (weight.as<GgmlBlocks>() != nullptr) return ggml_blocks_decoder();
  if (weight.as<Int8Rows>() != nullptr) return int8_rows_decoder();
  if (weight.as<Fp8Blocks>() != nullptr) return fp8_blocks_decoder();
  if (weight.as<Fp4Groups>() != nullptr) return fp4_groups_decoder();
  if (weight.as<MergedWeight>() != nullptr) return merged_decoder();
  static const PlainDecoder plain;
  return plain;
}

}  // namespace qwb
