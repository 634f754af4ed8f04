// The weight matrix of a linear module as it is stored: plain floats or one of the codecs below.
// Every codec is drawn byte by byte in formats/qwb.md; lib/kernels/dequantize.h turns any of them
// into f32. Views: the bytes belong to a file or to a QuantizedTensor.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "lib/tensor/ggml_type.h"
#include "lib/tensor/tensor.h"

namespace qwb {

// Whether the stored matrix is [out, in] (torch Linear) or [in, out] (GPT-2's Conv1D).
enum class Orientation { out_in, in_out };

// Plain f32, f16, bf16 (or f64) values, shape as `orientation` says.
struct DenseWeight {
  TensorView values;
};

// Integer grid: w[o, i] = (code[o, i] - zero[o, g]) * scale[o, g] with g = i / group_size; codes
// are unsigned, 2 to 8 bits.
//   codes   U8 [out, ceil(in * bits / 8)]   each row a bit stream, least significant bit first,
//           padded with zero bits
//   scales  F16, BF16 or F32 [out, groups]  groups = ceil(in / group_size), the last may be short
//   zeros   U8 [out, ceil(groups * bits / 8)]  packed like codes; absent: the grid is symmetric and
//           zero = 2^(bits-1)
//   group_index I32 [in]                    g of every column, 0 .. groups - 1 (GPTQ's act-order);
//           absent: g = i / group_size
// Always in the orientation out_in.
struct IntegerGrid {
  int bits = 0;
  int64_t group_size = 0;  // 1 .. in (per channel: in)
  TensorView codes;
  TensorView scales;
  TensorView zeros;        // empty() when symmetric
  TensorView group_index;  // empty() when groups are runs of columns

  int64_t group(int64_t column) const {
    return group_index.empty() ? column / group_size
                               : load<int32_t>(group_index.bytes.data() + 4 * column);
  }
};

// LLM.int8 rows: w[o, i] = code[o, i] * absmax[o] / 127 (computed as (code * absmax) * (1/127), as
// bitsandbytes does).
//   codes I8 [out, in] · absmax F32 [out]
// Always in the orientation out_in.
struct Int8Rows {
  TensorView codes;
  TensorView absmax;
};

// 4-bit floats as bitsandbytes stores them: w[k] = table[code[k]] * scale(k / block_size) over the
// flattened stored matrix, whatever its orientation.
//   codes  U8 [ceil(n / 2)]  element 2j in the high nibble of byte j
//   absmax F32 [blocks], or with double quantization U8 [blocks] and
//   nested_absmax F32 [ceil(blocks / nested_block)], nested_map F32 [256]:
//          scale(b) = nested_map[absmax[b]] * nested_absmax[b / nested_block] + nested_offset
struct FloatBlocks {
  enum class Table { nf4, fp4 };
  Table table = Table::nf4;
  int64_t block_size = 64;
  TensorView codes;
  TensorView absmax;
  TensorView nested_absmax;  // empty() without double quantization
  TensorView nested_map;
  int64_t nested_block = 256;
  float nested_offset = 0;
};

// Rows of ggml's blocks, as a GGUF file holds them: blocks U8 [out, bytes per row], each row whole
// blocks. Always in the orientation out_in. With head_rows = d > 0, which files of the Llama
// architecture use for q and k, the rows of every group of d are stored interleaved: row s * d/2 +
// t of a group (s in 0, 1) is its stored row 2t + s.
struct GgmlBlocks {
  GgmlType type = GgmlType::q8_0;
  TensorView blocks;
  int64_t head_rows = 0;

  int64_t stored_row(int64_t row) const {
    if (head_rows == 0) return row;
    const int64_t within = row % head_rows, half = head_rows / 2;
    return row - within + 2 * (within % half) + within / half;
  }
  // The bytes of a row of the weight, by its number in the weight.
  const std::byte* row_data(int64_t row) const {
    return blocks.bytes.data() + stored_row(row) * blocks.shape[1];
  }
};

struct Weight {
  int64_t out = 0;  // output channels (rows of the Linear weight)
  int64_t in = 0;   // input channels
  Orientation orientation = Orientation::out_in;
  std::variant<DenseWeight, IntegerGrid, Int8Rows, FloatBlocks, GgmlBlocks> storage;
  // What a backend made of it for its products (Backend::pack); null: nothing.
  const std::byte* packed = nullptr;

  bool is_dense() const { return std::holds_alternative<DenseWeight>(storage); }
  // Bytes of all parts.
  int64_t bytes() const;
  // Bits of one code (the type's for dense weights), scales and zero points apart.
  int code_bits() const;
  // "dense", "integer-grid", ...: as in QuantizedTensor.
  std::string codec() const;
};

// Throws `failed`, naming `where`, if the shapes and types of the parts are not exactly what the
// codec asks for. Every loader calls it before the weight is used; kernels rely on it.
void check_weight(const Weight& weight, const std::string& where);

// A quantized weight that owns its parts: what a method returns and a writer stores. Part names are
// those of the codec's fields ("codes", "scales", ...); parameters are everything else a reader
// needs (see weight_from_parts).
struct QuantizedTensor {
  int64_t out = 0;
  int64_t in = 0;
  Orientation orientation = Orientation::out_in;
  std::string codec;  // "integer-grid", "int8-rows", "float-blocks", "ggml-blocks", "dense"
  std::map<std::string, double>
      parameters;  // integer-grid: bits, group_size · float-blocks: table (0 nf4, 1
                   // fp4), block_size, nested_block, nested_offset ·
                   // ggml-blocks: type (GgmlType's number), head_rows
  std::map<std::string, Tensor> parts;

  // Views into the parts.
  Weight view() const;
};

// What a codec stores for a module: the shape and type of every part, known before quantizing.
struct PartSpec {
  std::string name;
  DType dtype;
  Shape shape;
  bool operator==(const PartSpec&) const = default;
};

// How a weight is stored, without its bytes: enough to lay out files.
struct WeightForm {
  int64_t out = 0;
  int64_t in = 0;
  Orientation orientation = Orientation::out_in;
  std::string codec;  // "dense" or a codec
  std::map<std::string, double>
      parameters;  // as in QuantizedTensor; those not known yet may be absent
  std::vector<PartSpec> parts;

  bool has(const std::string& part) const;
  const PartSpec& part(const std::string& name) const;  // throws usage if there is none
  int64_t bytes() const;                                // of all parts
  int code_bits() const;                                // as Weight::code_bits
};
WeightForm weight_form(const Weight& weight);
// The parts by name; the bytes are the weight's.
std::map<std::string, TensorView> weight_parts(const Weight& weight);

// Assembles a Weight from named parts and parameters (as a reader found them), checked. Throws
// failed or unsupported, naming `where`.
Weight weight_from_parts(int64_t out, int64_t in, Orientation orientation, const std::string& codec,
                         const std::map<std::string, double>& parameters,
                         const std::map<std::string, TensorView>& parts, const std::string& where);

// Parts of each codec for a module of this size, codes first. scale_dtype: F16, BF16 or F32.
std::vector<PartSpec> integer_grid_parts(int64_t out, int64_t in, int bits, int64_t group_size,
                                         bool symmetric, DType scale_dtype,
                                         bool group_index = false);
std::vector<PartSpec> int8_rows_parts(int64_t out, int64_t in);
std::vector<PartSpec> float_blocks_parts(int64_t out, int64_t in, int64_t block_size,
                                         bool double_quantization, int64_t nested_block);

std::vector<PartSpec> ggml_blocks_parts(int64_t out, int64_t in, GgmlType type);

// Bytes of a packed row of `count` codes.
inline int64_t packed_bytes(int64_t count, int bits) {
  return ceil_div(count * bits, 8);
}
// Packs `count` codes (each < 2^bits) into packed_bytes(count, bits) bytes, least significant bit
// first; unpacks them again.
void pack_codes(const uint8_t* codes, int64_t count, int bits, std::byte* packed);
void unpack_codes(const std::byte* packed, int64_t count, int bits, uint8_t* codes);

}  // namespace qwb
