#include "lib/exec/cuda/weights.h"

#include <algorithm>
#include <utility>

#include "lib/codec/dense.h"
#include "lib/codec/float_blocks.h"
#include "lib/codec/float_tables.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/codec/int8_rows.h"
#include "lib/codec/integer_grid.h"
#include "lib/exec/cuda/decode.h"

namespace qwb {
namespace {

using cuda::Form;
using cuda::Number;
using cuda::Packing;

Number number_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return Number::f16;
    case DType::bf16:
      return Number::bf16;
    case DType::f64:
      return Number::f64;
    default:
      return Number::f32;
  }
}

const unsigned char* at(const std::shared_ptr<const AlignedBuffer>& part) {
  return reinterpret_cast<const unsigned char*>(part->data());
}

// A row's loads of 16 bytes hold whole pieces of 32 columns.
bool whole_pieces(int64_t columns) {
  return columns % cuda::kPackedColumns == 0;
}

cuda::PackedWeight packed_grid(const cuda::StoredWeight& w) {
  cuda::PackedWeight packed = {};
  if (!whole_pieces(w.in) || w.group_index != nullptr) return packed;
  if (w.group % cuda::kPackedColumns != 0 && w.group < w.in) return packed;
  constexpr Packing kBits[] = {Packing::grid2, Packing::grid3, Packing::grid4, Packing::grid5,
                               Packing::grid6, Packing::grid7, Packing::grid8};
  packed.packing = kBits[w.bits - 2];
  packed.scale_number = w.number;
  packed.scales = w.scales;
  packed.zeros = w.zeros;
  packed.zeros_row_bytes = w.zeros_row_bytes;
  packed.group = w.group, packed.groups = w.groups;
  packed.factor = 1;
  return packed;
}

cuda::PackedWeight packed_dense(const cuda::StoredWeight& w) {
  cuda::PackedWeight packed = {};
  if (!whole_pieces(w.in) || w.in_out != 0 || w.number == Number::f64) return packed;
  packed.packing = w.number == Number::f32   ? Packing::f32
                   : w.number == Number::f16 ? Packing::f16
                                             : Packing::bf16;
  packed.group = w.in, packed.groups = 1;
  packed.factor = 1;
  return packed;
}

cuda::PackedWeight packed_int8(const cuda::StoredWeight& w) {
  cuda::PackedWeight packed = {};
  if (!whole_pieces(w.in)) return packed;
  packed.packing = Packing::int8;
  packed.scales = w.scales;
  packed.group = w.in, packed.groups = 1;
  packed.factor = cuda::kInverse127;
  return packed;
}

// Nested scales are plain by now.
cuda::PackedWeight packed_float_blocks(const cuda::StoredWeight& w) {
  cuda::PackedWeight packed = {};
  const bool runs = w.scale_block % cuda::kPackedColumns == 0 && w.in % w.scale_block == 0;
  if (!runs || w.in_out != 0) return packed;
  packed.packing = Packing::table4;
  packed.scales = w.scales;
  packed.group = w.scale_block, packed.groups = w.in / w.scale_block;
  packed.factor = 1;
  std::copy(std::begin(w.table), std::end(w.table), packed.table);
  return packed;
}

cuda::PackedWeight packed_weight(const cuda::StoredWeight& w) {
  cuda::PackedWeight packed = {};
  if (w.form == Form::grid) packed = packed_grid(w);
  if (w.form == Form::dense) packed = packed_dense(w);
  if (w.form == Form::int8_rows) packed = packed_int8(w);
  if (w.form == Form::float_blocks) packed = packed_float_blocks(w);
  packed.out = w.out, packed.in = w.in;
  packed.codes = w.codes, packed.row_bytes = w.row_bytes;
  return packed;
}

// Bits of the integer grid that a type is; 0: it is none.
int grid_bits(GgmlType type) {
  return type == GgmlType::q4_0 ? 4 : type == GgmlType::q5_0 ? 5 : type == GgmlType::q8_0 ? 8 : 0;
}

}  // namespace

CudaWeights::Shared CudaWeights::allocate(int64_t bytes) const {
  return std::make_shared<const AlignedBuffer>(std::max<int64_t>(bytes, 1), MemoryKind::weights,
                                               &device_);
}

CudaWeights::Shared CudaWeights::upload(Bytes bytes) const {
  const std::lock_guard one_at_a_time(mutex_);
  std::weak_ptr<const AlignedBuffer>& known = copies_[{bytes.data(), bytes.size()}];
  if (Shared copy = known.lock()) return copy;
  Shared copy = allocate(std::ssize(bytes));
  const auto held = device_.lock();
  device_.check(
      device_.functions().upload(device_.queue(), bytes.data(), copy->data(), std::ssize(bytes)),
      "copying weights to the GPU");
  known = copy;
  return copy;
}

// Makes one weight.
struct CudaWeights::Maker {
  const CudaWeights& all;
  const Weight& weight;
  CudaWeight made = {};

  Maker(const CudaWeights& weights, const Weight& one) : all(weights), weight(one) {
    made.stored = empty();
  }
  cuda::StoredWeight empty() const {
    cuda::StoredWeight stored = {};
    stored.out = weight.out, stored.in = weight.in;
    stored.in_out = weight.orientation == Orientation::in_out ? 1 : 0;
    return stored;
  }
  // A copy that lives as long as `keep` holds it.
  const unsigned char* part(const TensorView& view, std::vector<Shared>& keep) const {
    if (view.shape.empty()) return nullptr;
    keep.push_back(all.upload(view.bytes));
    return at(keep.back());
  }
  const unsigned char* part(const TensorView& view) { return part(view, made.parts); }
  unsigned char* room(int64_t bytes) {
    made.parts.push_back(all.allocate(bytes));
    return reinterpret_cast<unsigned char*>(made.parts.back()->data());
  }
  void run(int code) const { all.device_.check(code, "making a weight ready"); }

  void dense(const DenseWeight& w) {
    made.stored.form = Form::dense;
    made.stored.number = number_of(w.values.dtype);
    made.stored.row_bytes = weight.columns() * dtype_size(w.values.dtype);
    made.stored.codes = part(w.values);
  }
  void grid(const IntegerGrid& w) {
    made.stored.form = Form::grid;
    made.stored.number = number_of(w.scales.dtype);
    made.stored.bits = w.bits;
    made.stored.group = w.group_size;
    made.stored.groups = w.scales.shape[1];
    made.stored.row_bytes = w.codes.shape[1];
    made.stored.codes = part(w.codes);
    made.stored.scales = part(w.scales);
    made.stored.zeros = part(w.zeros);
    if (!w.symmetric()) made.stored.zeros_row_bytes = w.zeros.shape[1];
    made.stored.group_index = reinterpret_cast<const int32_t*>(part(w.group_index));
  }
  void int8_rows(const Int8Rows& w) {
    made.stored.form = Form::int8_rows;
    made.stored.row_bytes = weight.in;
    made.stored.codes = part(w.codes);
    made.stored.scales = part(w.absmax);
  }
  void float_blocks(const FloatBlocks& w) {
    cuda::StoredWeight& stored = made.stored;
    stored.form = Form::float_blocks;
    stored.scale_block = w.block_size;
    stored.row_bytes = weight.columns() / 2;
    std::ranges::copy(float_table(w.table), stored.table);
    stored.codes = part(w.codes);
    if (!w.nested()) {
      stored.scales = part(w.absmax);
      return;
    }
    // What is nested goes once every block has a scale of its own.
    cuda::StoredWeight nested = stored;
    std::vector<Shared> statistics;
    nested.nested = 1;
    nested.nested_block = w.nested_block;
    nested.nested_offset = *w.nested_offset;
    nested.scales = part(w.absmax, statistics);
    nested.nested_absmax = reinterpret_cast<const float*>(part(w.nested_absmax, statistics));
    nested.nested_map = reinterpret_cast<const float*>(part(w.nested_map, statistics));
    unsigned char* scales = room(4 * ceil_div(weight.count(), w.block_size));
    const auto held = all.device_.lock();
    run(all.device_.functions().plain_scales(all.device_.queue(), &nested,
                                             reinterpret_cast<float*>(scales)));
    stored.scales = scales;
  }
  void ggml(const GgmlBlocks& w) {
    cuda::StoredWeight& stored = made.stored;
    const GgmlTypeInfo& info = ggml_info(w.type);
    stored.form = Form::ggml_blocks;
    stored.type = static_cast<int>(w.type);
    stored.block = static_cast<int>(info.block);
    stored.block_bytes = static_cast<int>(info.bytes);
    stored.head_rows = w.head_rows;
    stored.row_bytes = w.blocks.shape[1];
    stored.codes = part(w.blocks);
    if (const int bits = grid_bits(w.type); bits != 0) as_grid(bits);
  }
  // The blocks go once their codes and scales lie apart.
  void as_grid(int bits) {
    const std::vector<Shared> blocks = std::move(made.parts);
    made.parts.clear();
    const cuda::StoredWeight from = made.stored;
    unsigned char* codes = room(weight.count() / 8 * bits);
    unsigned char* scales = room(weight.count() / 32 * 2);
    const auto held = all.device_.lock();
    run(all.device_.functions().grid_of_ggml(all.device_.queue(), &from, bits, codes, scales));
    made.stored = empty();
    made.stored.form = Form::grid;
    made.stored.number = Number::f16;
    made.stored.bits = bits;
    made.stored.group = 32, made.stored.groups = weight.in / 32;
    made.stored.row_bytes = weight.in / 8 * bits;
    made.stored.codes = codes, made.stored.scales = scales;
  }
  // A codec that the GPU does not know, by its own loops.
  void foreign() {
    std::vector<double> row(static_cast<size_t>(weight.columns()));
    std::vector<float> values;
    values.reserve(static_cast<size_t>(weight.count()));
    for (int64_t r = 0; r < weight.rows(); ++r) {
      weight.encoding->decode_row(weight, r, row.data());
      for (const double value : row) values.push_back(static_cast<float>(value));
    }
    made.stored.form = Form::dense;
    made.stored.row_bytes = weight.columns() * 4;
    unsigned char* room_for_values = room(weight.count() * 4);
    const auto held = all.device_.lock();
    run(all.device_.functions().upload(all.device_.queue(), values.data(), room_for_values,
                                       weight.count() * 4));
    made.stored.codes = room_for_values;
  }
};

std::shared_ptr<const CudaWeight> CudaWeights::in_place(const WeightLayout& layout,
                                                        const float* values) const {
  CudaWeight made;
  made.stored.form = Form::dense;
  made.stored.number = Number::f32;
  made.stored.out = layout.out, made.stored.in = layout.in;
  made.stored.row_bytes = layout.in * 4;
  made.stored.codes = reinterpret_cast<const unsigned char*>(values);
  made.packed = packed_weight(made.stored);
  return std::make_shared<const CudaWeight>(std::move(made));
}

std::shared_ptr<const CudaWeight> CudaWeights::rounded(const Weight& weight) const {
  const std::shared_ptr<const CudaWeight> from = prepare(weight);
  CudaWeight made;
  made.parts.push_back(allocate(weight.count() * dtype_size(DType::bf16)));
  made.stored.form = Form::dense;
  made.stored.number = Number::bf16;
  made.stored.out = weight.out, made.stored.in = weight.in;
  made.stored.row_bytes = weight.in * dtype_size(DType::bf16);
  made.stored.codes = at(made.parts.back());
  cuda::Parts to = {};
  to.data = reinterpret_cast<uint16_t*>(const_cast<std::byte*>(made.parts.back()->data()));
  to.rows = weight.out, to.columns = weight.in, to.count = 1;
  const auto held = device_.lock();
  device_.check(device_.functions().dequantize_parts(device_.queue(), &from->stored, 0, to),
                "rounding a weight");
  made.packed = packed_weight(made.stored);
  return std::make_shared<const CudaWeight>(std::move(made));
}

std::shared_ptr<const CudaWeight> CudaWeights::prepare(const Weight& weight) const {
  Maker maker(*this, weight);
  if (const auto* dense = weight.as<DenseWeight>()) {
    maker.dense(*dense);
  } else if (const auto* grid = weight.as<IntegerGrid>()) {
    maker.grid(*grid);
  } else if (const auto* rows = weight.as<Int8Rows>()) {
    maker.int8_rows(*rows);
  } else if (const auto* blocks = weight.as<FloatBlocks>()) {
    maker.float_blocks(*blocks);
  } else if (const auto* ggml = weight.as<GgmlBlocks>()) {
    maker.ggml(*ggml);
  } else {
    maker.foreign();
  }
  maker.made.packed = packed_weight(maker.made.stored);
  return std::make_shared<const CudaWeight>(std::move(maker.made));
}

}  // namespace qwb
