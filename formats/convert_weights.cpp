#include "formats/convert_weights.h"

#include <algorithm>
#include <cmath>

#include "formats/hf/packing.h"
#include "formats/hf/plain.h"
#include "lib/base/error.h"
#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/simd.h"
#include "lib/tensor/error_sum.h"

namespace qwb {

NarrowScales narrow_scales(const TensorView& scales, DType type, std::byte* out) {
  NarrowScales result;
  std::vector<float> values = read_floats(scales, "scales");
  ErrorSum sum;
  for (size_t i = 0; i < values.size(); ++i) {
    const float value = values[i];
    float back = value;
    if (type == DType::f16) {
      const uint16_t bits = f32_to_f16(value);
      back = f16_to_f32(bits);
      if (out != nullptr) store(out + 2 * i, bits);
    } else if (type == DType::bf16) {
      const uint16_t bits = f32_to_bf16(value);
      back = bf16_to_f32(bits);
      if (out != nullptr) store(out + 2 * i, bits);
    } else if (out != nullptr) {
      store(out + 4 * i, value);
    }
    if (std::isfinite(back)) sum.add(value, back);
    if (std::isinf(back) && std::isfinite(value)) result.overflow = value;
    if (back != value && result.lossy++ == 0) result.first_lossy = value;
  }
  result.lost = relative_error({sum});
  return result;
}

FloatBuffer read_out_in_f32(const Weight& weight, const Context& context) {
  FloatBuffer values(checked_mul(weight.out, weight.in, "weight"));
  dequantize(weight, values.data(), context.threads);
  if (weight.orientation == Orientation::out_in) return values;
  const Bytes bytes{reinterpret_cast<const std::byte*>(values.data()),
                    static_cast<size_t>(values.size()) * sizeof(float)};
  const Tensor turned = transposed({DType::f32, {weight.in, weight.out}, bytes}, context);
  std::memcpy(values.data(), turned.data<float>(), bytes.size());
  return values;
}

namespace {

[[noreturn]] void not_finite(const std::string& name) {
  throw Error(ErrorKind::failed, "holds NaN or Inf", name,
              "the checkpoint is damaged or diverged in training");
}

// NaN and Inf have all bits of the exponent set.
template <typename T>
bool exponents_finite(Bytes values, T exponent) {
  T any = 0;
  for (size_t at = 0; at + sizeof(T) <= values.size(); at += sizeof(T)) {
    const T bits = load<T>(values.data() + at);
    any = static_cast<T>(any | ((bits & exponent) == exponent ? 1 : 0));
  }
  return any == 0;
}

// In floats of eight bits NaN has all of these bits set, and there are no infinities.
bool codes_finite(Bytes codes, uint8_t nan) {
  uint8_t any = 0;
  for (const std::byte code : codes)
    any |= static_cast<uint8_t>((static_cast<uint8_t>(code) & nan) == nan ? 1 : 0);
  return any == 0;
}

}  // namespace

void require_finite(const float* values, int64_t count, const std::string& name) {
  if (!simd::all_finite(values, count)) not_finite(name);
}

void require_finite(const TensorView& piece, const std::string& name) {
  bool finite = true;
  if (piece.dtype == DType::f64) finite = exponents_finite<uint64_t>(piece.bytes, 0x7ff0ull << 48);
  if (piece.dtype == DType::f32) finite = exponents_finite<uint32_t>(piece.bytes, 0x7f800000u);
  if (piece.dtype == DType::bf16) finite = exponents_finite<uint16_t>(piece.bytes, 0x7f80u);
  if (piece.dtype == DType::f16) finite = exponents_finite<uint16_t>(piece.bytes, 0x7c00u);
  if (piece.dtype == DType::f8_e4m3) finite = codes_finite(piece.bytes, 0x7f);
  if (piece.dtype == DType::f8_e8m0) finite = codes_finite(piece.bytes, 0xff);
  if (!finite) not_finite(name);
}

void require_finite(const Weight& weight, const std::string& name, const Context& context) {
  const auto* ggml = weight.as<GgmlBlocks>();
  if (ggml == nullptr) {
    for (const auto& [part, view] : weight.parts()) {
      const int64_t size = dtype_size(view.dtype);
      parallel_ranges(
          context, view.count(), int64_t{1} << 18, [&, whole = view](int64_t begin, int64_t end) {
            const auto piece = whole.bytes.subspan(static_cast<size_t>(begin * size),
                                                   static_cast<size_t>((end - begin) * size));
            require_finite({whole.dtype, {end - begin}, piece}, name);
          });
    }
    return;
  }
  // Their scales lie among the codes.
  const int64_t row_bytes = ggml->blocks.shape.at(1);
  parallel_ranges(
      context, weight.out, ceil_div(int64_t{1} << 16, row_bytes), [&](int64_t begin, int64_t end) {
        const Bytes rows = ggml->blocks.bytes.subspan(
            static_cast<size_t>(begin * row_bytes), static_cast<size_t>((end - begin) * row_bytes));
        if (!ggml_scales_finite(ggml->type, rows)) not_finite(name);
      });
}

double weight_distance(const Weight& a, const Weight* b, DType narrowed, const Context& context) {
  const int64_t rows = a.rows(), columns = a.columns();
  std::vector<ErrorSum> parts(static_cast<size_t>(rows));
  parallel_ranges(context, rows, std::max<int64_t>(1, (int64_t{1} << 14) / columns),
                  [&](int64_t begin, int64_t end) {
                    FloatBuffer x(columns), y(columns);
                    std::vector<std::byte> bytes(static_cast<size_t>(4 * columns));
                    for (int64_t r = begin; r < end; ++r) {
                      dequantize_rows(a, r, r + 1, x.data());
                      if (b != nullptr) {
                        dequantize_rows(*b, r, r + 1, y.data());
                      } else {
                        narrow_floats(x.data(), columns, narrowed, bytes.data(), "weight");
                        read_floats(
                            {narrowed,
                             {columns},
                             {bytes.data(), static_cast<size_t>(columns * dtype_size(narrowed))}},
                            0, columns, y.data(), "weight");
                      }
                      parts[r] = error_sum(x.data(), y.data(), columns);
                    }
                  });
  return relative_error(parts);
}

}  // namespace qwb
