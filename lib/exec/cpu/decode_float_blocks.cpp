#include <algorithm>

#include "lib/codec/float_blocks.h"
#include "lib/codec/float_tables.h"
#include "lib/exec/cpu/decoders.h"
#include "lib/exec/cpu/packed_dot.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {
namespace {

// Elements [first, first + count) of the flattened matrix.
void blocks_part(const FloatBlocks& blocks, int64_t first, int64_t count, float* out) {
  const auto& table = float_table(blocks.table);
  const std::byte* codes = blocks.codes.bytes.data();
  for (int64_t at = first, end = first + count; at < end;) {
    const int64_t block = at / blocks.block_size;
    const int64_t stop = std::min(end, (block + 1) * blocks.block_size);
    const float scale = blocks.scale(block);
    if (at % 2 != 0) {
      *out++ = table[static_cast<size_t>(codes[at / 2]) & 15] * scale;
      ++at;
    }
    simd::from_nibbles(codes + at / 2, stop - at, table, scale, out);
    out += stop - at;
    at = stop;
  }
}

bool dot_blocks(const FloatBlocks& blocks, int64_t row, int64_t columns, const Vectors& vectors,
                float* scratch) {
  if (blocks.block_size % 8 != 0 || columns % blocks.block_size != 0) return false;
  const int64_t count = columns / blocks.block_size;
  for (int64_t b = 0; b < count; ++b) scratch[b] = blocks.scale(row * count + b);
  const simd::GroupedRow packed{blocks.codes.bytes.data() + row * columns / 2, columns,
                                blocks.block_size, scratch};
  const float* table = float_table(blocks.table).data();
  return vectors.each([&](const float* x) { return simd::dot_table(packed, table, x); });
}

class FloatBlocksDecoder final : public Decoder {
 public:
  void rows(const Weight& weight, int64_t begin, int64_t end, float* out) const override {
    const int64_t columns = weight.columns();
    blocks_part(weight.get<FloatBlocks>(), begin * columns, (end - begin) * columns, out);
  }
  void part(const Weight& weight, int64_t row, int64_t first, int64_t count,
            float* out) const override {
    blocks_part(weight.get<FloatBlocks>(), row * weight.columns() + first, count, out);
  }
  bool dot(const Weight& weight, int64_t row, const Vectors& vectors,
           float* scratch) const override {
    return dot_blocks(weight.get<FloatBlocks>(), row, weight.columns(), vectors, scratch);
  }
};

}  // namespace

const Decoder& float_blocks_decoder() {
  static const FloatBlocksDecoder decoder;
  return decoder;
}

}  // namespace qwb
