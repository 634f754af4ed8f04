#include <algorithm>
#include <vector>

#include "lib/exec/cpu/decoders.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/merged_rows.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {

void merged_delta(const MergedWeight& merged, int64_t row, int64_t columns, float* delta) {
  std::fill_n(delta, columns, 0.0f);
  const float* factors = merged.left_row(row);
  for (int64_t k = 0; k < merged.rank(); ++k)
    simd::axpy(factors[k], merged.right_row(k), delta, columns);
}

namespace {

class MergedDecoder final : public Decoder {
 public:
  // What is added is summed up first: small values meet the large one of the base only once.
  void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const override {
    const auto& merged = weight.get<MergedWeight>();
    const int64_t columns = weight.columns();
    dequantize_rows(merged.base_weight(weight), begin, end, out);
    std::vector<float> delta(static_cast<size_t>(columns));
    for (int64_t row = begin; row < end; ++row, out += columns) {
      merged_delta(merged, row, columns, delta.data());
      simd::add(out, delta.data(), columns);
    }
  }
};

}  // namespace

const Decoder& merged_decoder() {
  static const MergedDecoder decoder;
  return decoder;
}

}  // namespace qwb
