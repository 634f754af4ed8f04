#include <algorithm>

#include "lib/codec/float_blocks.h"
#include "lib/codec/float_tables.h"
#include "lib/exec/cpu/decoders.h"
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

const float* aligned_map(const TensorView& view) {
  const std::byte* data = view.bytes.data();
  return reinterpret_cast<uintptr_t>(data) % sizeof(float) == 0
             ? reinterpret_cast<const float*>(data)
             : nullptr;
}

std::optional<simd::PackedRows> packed_blocks(const FloatBlocks& blocks, int64_t columns) {
  using simd::PackedScales;
  const int64_t run = simd::packed_run(simd::Packing::nibbles);
  if (blocks.block_size % run != 0 || columns % blocks.block_size != 0) return {};
  simd::PackedRows packed{simd::Packing::nibbles, blocks.codes.bytes.data(), columns / 2, columns};
  packed.group = blocks.block_size;
  packed.table = float_table(blocks.table).data();
  packed.scales.form = blocks.nested() ? PackedScales::Form::nested : PackedScales::Form::f32;
  packed.scales.values = blocks.absmax.bytes;
  if (!blocks.nested()) return packed;
  packed.scales.map = aligned_map(blocks.nested_map);
  packed.scales.outer = aligned_map(blocks.nested_absmax);
  packed.scales.outer_block = blocks.nested_block;
  packed.scales.offset = *blocks.nested_offset;
  if (packed.scales.map == nullptr || packed.scales.outer == nullptr) return {};
  return packed;
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
  std::optional<simd::PackedRows> packed(const Weight& weight) const override {
    return packed_blocks(weight.get<FloatBlocks>(), weight.columns());
  }
};

}  // namespace

const Decoder& float_blocks_decoder() {
  static const FloatBlocksDecoder decoder;
  return decoder;
}

}  // namespace qwb
