// 4-bit floats in blocks, as bitsandbytes 0.50 quantizes them on the CPU: every byte is the same
// (FloatBlocks in lib/codec/weight.h). Its CUDA kernels differ in details: the rounding of ties,
// code 8 (-0) of FP4, and the 8-bit codes of the block scales, which its CPU code looks up in a
// table of 65536 positions.
#pragma once

#include <array>
#include <vector>

#include "lib/base/context.h"
#include "lib/codec/float_tables.h"
#include "lib/codec/weight.h"
#include "lib/exec/cpu/rounding.h"

namespace qwb {

constexpr int64_t kNestedBlock = 256;  // block scales that share a nested scale

// The 256 values of the dynamic 8-bit type (Dettmers 2015, arXiv 1511.04561), ascending.
const std::array<float, 256>& dynamic_map();

// Quantizes blocks of `block_size` values, the last one possibly short: absmax gets ceil(count /
// block_size) values, codes ceil(count / 2) bytes with the first element in the high nibble; an odd
// count is padded with the code of 0. Values are finite. A full block multiplies by 1 / absmax, a
// short one divides by absmax, which is then at least 1e-38. sums gets what each block lost with
// its absmax as the scale.
void quantize_float_blocks(const float* values, int64_t count, FloatBlocks::Table table,
                           int64_t block_size, float* absmax, std::byte* codes, PointSums* sums);

// Double quantization of the block scales.
struct NestedScales {
  std::vector<uint8_t> codes;  // indices into dynamic_map()
  std::vector<float> absmax;   // one per kNestedBlock scales
  float offset = 0;            // mean of the scales, subtracted before
};
NestedScales quantize_scales(const std::vector<float>& absmax, const Context& context = {});
// The scale of block b that a reader computes.
inline float nested_scale(const NestedScales& nested, size_t b) {
  return dynamic_map()[nested.codes[b]] * nested.absmax[b / kNestedBlock] + nested.offset;
}

// The sum of an f32 vector in the order in which PyTorch adds a contiguous one on one thread
// (cascades of four levels over eight lanes): the offset above must be the same float. From 32768
// values on PyTorch's own result depends on its threads.
float cascade_sum(const float* values, int64_t count);

}  // namespace qwb
