#include "lib/quantize/encode/module_weight.h"

#include <algorithm>
#include <limits>

#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/simd.h"
#include "lib/tensor/error_sum.h"
#include "lib/tensor/small_numbers.h"

namespace qwb {
namespace {

// A finite value that the narrow type cannot hold must not become infinity unseen.
[[noreturn]] void overflow(float value, DType type, const std::string& module) {
  throw Error(ErrorKind::failed,
              "the value " + Json(value).dump() + " does not fit " + std::string(dtype_name(type)),
              module, "choose bf16 or f32");
}

[[noreturn]] void refuse_non_finite(const std::string& module) {
  throw Error(ErrorKind::failed, "the weight holds NaN or Inf", module,
              "the checkpoint is damaged or diverged in training");
}

constexpr int64_t kTile = 64;  // a 64 x 64 tile of f32 and its transpose fit the L1 cache

// Columns [begin, end) of the stored [in, out] matrix become the rows of `result`.
void transpose_columns(const ModuleTask& task, int64_t begin, int64_t end, float* result) {
  float tile[kTile * kTile];
  const int64_t in = task.info.in;
  for (int64_t i0 = 0; i0 < in; i0 += kTile) {
    const int64_t rows = std::min(kTile, in - i0);
    for (int64_t i = 0; i < rows; ++i) {
      read_values(task, (i0 + i) * task.info.out + begin, end - begin, tile + i * kTile);
    }
    for (int64_t o = begin; o < end; ++o) {
      float* row = result + (o - begin) * in + i0;
      for (int64_t i = 0; i < rows; ++i) row[i] = tile[i * kTile + (o - begin)];
    }
  }
}

// `weight` holds rows [begin, end) of the matrix.
void fold(const FoldedScales& scales, int64_t begin, int64_t end, int64_t in, float* weight) {
  for (int64_t o = begin; o < end; ++o) {
    float* row = weight + (o - begin) * in;
    for (int64_t i = 0; !scales.columns.empty() && i < in; ++i) row[i] *= scales.columns[i];
    for (int64_t i = 0; !scales.rows.empty() && i < in; ++i) row[i] /= scales.rows[o];
  }
}

// Rows [begin, end) of the [out, in] matrix.
void read_rows(const ModuleTask& task, int64_t begin, int64_t end, float* rows) {
  const int64_t in = task.info.in, count = (end - begin) * in;
  if (task.info.orientation == Orientation::out_in) {
    read_values(task, begin * in, count, rows);
  } else {
    transpose_columns(task, begin, end, rows);
  }
  if (task.folded != nullptr) fold(*task.folded, begin, end, in, rows);
  if (!simd::all_finite(rows, count)) refuse_non_finite(task.info.name);
}

}  // namespace

void narrow(const float* values, int64_t count, DType type, std::byte* out,
            const std::string& module) {
  for (int64_t i = 0; i < count; ++i) {
    if (type == DType::f32) {
      store(out + 4 * i, values[i]);
      continue;
    }
    const uint16_t bits = type == DType::f16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
    const uint16_t exponent = type == DType::f16 ? 0x7c00 : 0x7f80;
    if ((bits & exponent) == exponent) overflow(values[i], type, module);
    store(out + 2 * i, bits);
  }
}

Tensor narrow(const std::vector<float>& values, DType type, const Shape& shape,
              const std::string& where) {
  Tensor tensor(type, shape);
  const auto count = static_cast<int64_t>(values.size());
  narrow(values.data(), count, type, tensor.bytes().data(), where);
  const std::vector<float> stored = read_floats(tensor.view(), where);
  require_floats_kept(relative_error({error_sum(values.data(), stored.data(), count)}), type, where,
                      "choose bf16 or f32");
  return tensor;
}

In required_hessian(const ModuleTask& task) {
  if (task.moments == nullptr || task.moments->hessian.empty() || task.moments->tokens <= 0) {
    throw Error(ErrorKind::failed, "no calibration token reached this module", task.info.name,
                "use more calibration text, or quantize this module with rtn");
  }
  return task.moments->hessian;
}

void check_task(const ModuleTask& task) {
  const ModuleInfo& info = task.info;
  const Shape expected =
      info.orientation == Orientation::out_in ? Shape{info.out, info.in} : Shape{info.in, info.out};
  if (task.weight.shape != expected || task.weight.dtype != info.dtype) {
    throw Error(ErrorKind::failed,
                "the weight is " + std::string(dtype_name(task.weight.dtype)) + " " +
                    shape_text(task.weight.shape) + ", expected " +
                    std::string(dtype_name(info.dtype)) + " " + shape_text(expected),
                info.name);
  }
  if (!dtype_is_float(info.dtype)) {
    throw Error(ErrorKind::unsupported,
                "the weight is " + std::string(dtype_name(info.dtype)) + ", not a float type",
                info.name, "quantize from the original checkpoint");
  }
}

void read_values(const ModuleTask& task, int64_t begin, int64_t count, float* values) {
  const TensorView& view = task.weight;
  const std::byte* at = view.bytes.data() + begin * dtype_size(view.dtype);
  if (view.dtype == DType::bf16) return simd::from_bf16(at, count, values);
  if (view.dtype == DType::f16) return simd::from_f16(at, count, 1.0f, values);
  read_floats(view, begin, count, values, task.info.name);
}

void read_finite(const ModuleTask& task, int64_t begin, int64_t count, float* values) {
  read_values(task, begin, count, values);
  if (!simd::all_finite(values, count)) refuse_non_finite(task.info.name);
}

FloatBuffer read_out_in(const ModuleTask& task) {
  check_task(task);
  FloatBuffer result(checked_mul(task.info.out, task.info.in, task.info.name));
  parallel_ranges(task.context, task.info.out, kTile, [&](int64_t begin, int64_t end) {
    read_rows(task, begin, end, result.data() + begin * task.info.in);
  });
  return result;
}

void for_rows_out_in(
    const ModuleTask& task,
    const std::function<void(int64_t first, int64_t last, const float* rows)>& work) {
  check_task(task);
  checked_mul(task.info.out, task.info.in, task.info.name);
  // Few rows at once stay in the cache; a transposed matrix is read by tiles.
  const int64_t grain =
      task.info.orientation == Orientation::out_in
          ? std::clamp<int64_t>((1 << 16) / std::max<int64_t>(task.info.in, 1), 1, kTile)
          : kTile;
  parallel_ranges(task.context, task.info.out, grain, [&](int64_t first, int64_t last) {
    thread_local FloatBuffer rows;
    const int64_t count = (last - first) * task.info.in;
    if (rows.size() < count) rows = FloatBuffer(count);
    read_rows(task, first, last, rows.data());
    work(first, last, rows.data());
  });
}

}  // namespace qwb
