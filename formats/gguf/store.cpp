// The bytes of GGUF's tensors: as they are, repacked code by code, or encoded anew, row by row.
#include <algorithm>
#include <cstring>
#include <span>

#include "formats/convert_weights.h"
#include "formats/gguf/model_writer.h"
#include "formats/gguf/repack.h"
#include "formats/gguf/types.h"
#include "lib/base/parallel.h"
#include "lib/codec/dense.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/ggml_blocks.h"
#include "lib/tensor/error_sum.h"
#include "lib/tensor/small_numbers.h"

namespace qwb {
namespace {

constexpr int64_t kPieceValues = int64_t{1} << 19;  // encoded and written at a time

// The row of the weight that lies in stored row `row` (the reverse of GgmlBlocks::stored_row).
int64_t weight_row(int64_t row, int64_t head_rows) {
  if (head_rows == 0) return row;
  const int64_t within = row % head_rows;
  return row - within + within % 2 * (head_rows / 2) + within / 2;
}

// The bytes of a dense weight are those of the type, row by row.
bool same_bytes(const Weight& weight, const GgmlTypeInfo& type) {
  const auto* dense = weight.as<DenseWeight>();
  return dense != nullptr && weight.orientation == Orientation::out_in &&
         type.bytes == dtype_size(dense->values.dtype) &&
         dtype_name(dense->values.dtype) == type.name;
}

// What was quantized after the plan may have minimums that no block holds.
void require_type(const Weight& weight, GgmlType type, const std::string& name,
                  const Context& context) {
  std::string reason;
  if (exact_ggml_type(weight, reason, context) == type) return;
  throw Error(ErrorKind::unsupported, "quantized anew, it has no exact type: " + reason, name,
              "choose a symmetric grid, or a type for the matrices");
}

}  // namespace

// Rows in pieces, on all threads; `row` fills the bytes of one stored row.
void GgufModelWriter::write_rows(size_t index, const RowMaker& row) const {
  const GgufTensor& tensor = writer_->tensors()[index];
  const int64_t rows = tensor.shape[0], row_bytes = tensor.bytes / rows;
  const int64_t grain = std::max<int64_t>(1, kPieceValues / tensor.shape[1]);
  parallel_ranges(context_, rows, grain, [&](int64_t begin, int64_t end) {
    const AlignedBuffer piece((end - begin) * row_bytes);
    for (int64_t r = begin; r < end; ++r) row(r, piece.data() + (r - begin) * row_bytes);
    writer_->put(index, begin * row_bytes, {piece.data(), static_cast<size_t>(piece.size())});
  });
}

// Through f32. The error is summed row by row in f64, so that threads do not change it.
double GgufModelWriter::write_values(size_t index, const Weight& weight) const {
  const Item& item = items_[index];
  const GgmlType type = item.type;
  const bool turned = weight.orientation == Orientation::in_out;
  FloatBuffer whole(turned ? weight.out * weight.in : 0);
  if (turned) dequantize(weight, whole.data(), context_.threads);
  std::vector<ErrorSum> errors(static_cast<size_t>(item.exact ? 0 : weight.out)),
      lost(errors.size());
  write_rows(index, [&](int64_t stored, std::byte* out) {
    static thread_local FloatBuffer values, decoded;
    if (values.size() < weight.in)
      values = FloatBuffer(weight.in), decoded = FloatBuffer(weight.in);
    const int64_t row = weight_row(stored, item.head_rows);
    if (turned) {
      for (int64_t i = 0; i < weight.in; ++i) values[i] = whole[i * weight.out + row];
    } else {
      dequantize_rows(weight, row, row + 1, values.data());
    }
    require_finite(values.data(), weight.in, item.source);
    try {
      options_.encode(type, values.data(), weight.in, out);
    } catch (const Error& error) {
      throw Error(error.kind(), error.what(), item.source);
    }
    if (errors.empty()) return;
    decode_ggml(type, out, weight.in, decoded.data());
    errors[row] = error_sum(values.data(), decoded.data(), weight.in);
    if (ggml_is_quantized(type))
      lost[row] = lost_to_scales(type, out, values.data(), decoded.data(), weight.in);
  });
  const double error = relative_error(errors);
  if (errors.empty()) return error;
  if (ggml_is_quantized(type)) {
    require_codes_kept(relative_error(lost), ggml_code_bits(type),
                       std::string(ggml_info(type).name), item.source,
                       "keep this tensor in BF16 or F32 (--type bf16)");
  } else {
    require_floats_kept(error, dtype_from_name(ggml_info(type).name).value(), item.source,
                        "choose --type bf16 or f32");
  }
  return error;
}

ModelWriter::Stored GgufModelWriter::put(const ConvertedModule& module, const Weight& weight,
                                         bool /*words*/) {
  const size_t index = index_.at(module.target.name);
  const Item& item = items_[index];
  const GgmlTypeInfo& info = ggml_info(item.type);
  const auto row_bytes = static_cast<size_t>(ggml_row_bytes(info, weight.in));
  if (module.anew) require_type(weight, item.type, item.source, context_);
  const auto* grid = weight.as<IntegerGrid>();
  const auto* floats = weight.as<Fp4Groups>();
  const auto* ggml = weight.as<GgmlBlocks>();
  if (item.exact && grid != nullptr) {
    write_rows(index, [&](int64_t row, std::byte* out) {
      repack_ggml_row(*grid, item.type, weight.in, weight_row(row, item.head_rows), out);
    });
  } else if (item.exact && floats != nullptr) {
    write_rows(index, [&](int64_t row, std::byte* out) {
      repack_mxfp4_row(*floats, weight.in, weight_row(row, item.head_rows), out);
    });
  } else if (item.exact && ggml != nullptr) {
    write_rows(index, [&](int64_t row, std::byte* out) {
      std::memcpy(out, ggml->row_data(weight_row(row, item.head_rows)), row_bytes);
    });
  } else if (same_bytes(weight, info)) {
    const std::byte* bytes = weight.get<DenseWeight>().values.bytes.data();
    write_rows(index, [&](int64_t row, std::byte* out) {
      const int64_t from = weight_row(row, item.head_rows);
      std::memcpy(out, bytes + static_cast<size_t>(from) * row_bytes, row_bytes);
    });
  } else {
    return {.error = write_values(index, weight)};
  }
  return {};
}

void GgufModelWriter::put_tensor(const std::string& name) {
  const size_t index = index_.at(name);
  const std::vector<float> values = read_floats(source_.source->find(name).value(), name);
  require_finite(values.data(), static_cast<int64_t>(values.size()), name);
  std::vector<float> rows(values.size());
  for (size_t i = 0; i < values.size(); ++i)
    rows[i] = values[weight_row(static_cast<int64_t>(i), items_[index].head_rows)];
  writer_->put(index, 0, std::as_bytes(std::span(rows)));
}

}  // namespace qwb
