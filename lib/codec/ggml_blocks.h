// Blocks as GGUF files hold them.
#pragma once

#include "lib/codec/ggml_type.h"
#include "lib/codec/weight.h"

namespace qwb {

// Rows of ggml's blocks: blocks U8 [out, bytes per row], each row whole blocks. Always in the
// orientation out_in. With head_rows = d > 0, which files of the Llama architecture use for q and
// k, the rows of every group of d are stored interleaved: row s * d/2 + t of a group (s in 0, 1) is
// its stored row 2t + s.
struct GgmlBlocks : EncodingOf<GgmlBlocks> {
  GgmlType type = GgmlType::q8_0;
  TensorView blocks;
  int64_t head_rows = 0;

  static constexpr char kName[] = "ggml-blocks";
  static constexpr NamedPart<GgmlBlocks> kParts[] = {{"blocks", &GgmlBlocks::blocks}};

  GgmlBlocks() = default;
  GgmlBlocks(GgmlType kind, TensorView rows, int64_t head = 0)
      : type(kind), blocks(std::move(rows)), head_rows(head) {}
  int64_t stored_row(int64_t row) const {
    if (head_rows == 0) return row;
    const int64_t within = row % head_rows, half = head_rows / 2;
    return row - within + 2 * (within % half) + within / half;
  }
  // The bytes of a row of the weight, by its number in the weight.
  const std::byte* row_data(int64_t row) const {
    return blocks.bytes.data() + stored_row(row) * blocks.shape[1];
  }

  void read(ParameterReader& parameters, const PartViews& parts);
  Json parameters() const override;
  int code_bits() const override;
  void check(const WeightShape& shape, const std::string& where) const override;
  void decode_row(const WeightShape& shape, int64_t row, double* values) const override;
};

WeightLayout ggml_blocks_layout(int64_t out, int64_t in, GgmlType type);

// False if a scale or minimum of these whole blocks is NaN or Inf.
bool ggml_scales_finite(GgmlType type, Bytes blocks);

// Value `index` of one block, straight from the definition of its type (formats/gguf/gguf.md).
float reference_ggml_element(GgmlType type, const std::byte* block, int index);

}  // namespace qwb
