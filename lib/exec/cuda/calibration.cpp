#include "lib/exec/cuda/calibration.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "lib/exec/cuda/interface.h"

namespace qwb {
namespace {

// Of a product with H that are held at a time: at least so many columns, for few rows more, to fill
// the GPU.
constexpr int64_t kFormColumns = 1024, kFormValues = int64_t{1} << 22;
constexpr int64_t kMostTogether = int64_t{1} << 26;

const cuda::CalibrationFunctions& calls(const CudaExecutor& executor) {
  return *executor.functions().calibration;
}

// X^T X. With bf16 products operands are rounded to bf16 and multiplied on tensor cores.
class CudaMomentSums final : public MomentSums {
 public:
  explicit CudaMomentSums(const CudaExecutor& executor) : executor_(executor) {}

  void add(In x, Out h, In aims, Out cross) override {
    if (executor_.products() == Products::bf16) {
      add_rounded(x, h, aims, cross);
    } else {
      add_exact(x, h, aims, cross);
    }
  }

 private:
  void add_rounded(In x, Out h, In aims, Out cross) {
    const cuda::Parts inputs = rounded(x, x_);
    executor_.run("moments", calls(executor_).add_moments, inputs, inputs, executor_.dense(h), 1);
    if (aims.empty()) return;
    executor_.run("moments", calls(executor_).add_moments, rounded(aims, aims_), inputs,
                  executor_.dense(cross), 0);
  }
  void add_exact(In x, Out h, In aims, Out cross) {
    const In inputs = turned(x, x_);
    cuda_multiply(executor_, inputs, inputs, h, {.add = true, .upper = true});
    if (aims.empty()) return;
    cuda_multiply(executor_, turned(aims, aims_), inputs, cross, {.add = true});
  }
  Out room(int64_t values, Matrix& memory) {
    if (memory.columns() < values) {
      memory = {};
      memory = executor_.allocate(1, values);
    }
    return memory.view();
  }
  cuda::Parts rounded(In x, Matrix& memory) {
    cuda::Parts parts = {};
    parts.rows = x.rows, parts.count = 1;
    parts.columns = ceil_div(x.columns, cuda::kPartColumns) * cuda::kPartColumns;
    parts.data = reinterpret_cast<uint16_t*>(room(parts.rows * parts.columns / 2, memory).data);
    executor_.run("moments", executor_.functions().split, executor_.dense(x), parts);
    return parts;
  }
  In turned(In x, Matrix& memory) {
    const Out made = room(x.count(), memory).as(x.columns, x.rows);
    executor_.run("moments", calls(executor_).transpose, executor_.dense(x), executor_.view(made));
    return made;
  }

  const CudaExecutor& executor_;
  Matrix x_, aims_;
};

class CudaCalibration final : public CalibrationOps {
 public:
  explicit CudaCalibration(const CudaExecutor& executor) : executor_(executor) {}

  bool holds(int64_t bytes) const override {
    int64_t free = 0, total = 0;
    executor_.run("asking for memory", executor_.functions().memory, &free, &total);
    return bytes <= free / 2;
  }
  void to_halves(In x, Halves halves) const override {
    if (halves.device != nullptr) {
      run("to_halves", calls(executor_).to_halves, dense(x),
          reinterpret_cast<uint16_t*>(halves.values), halves.scales);
      return;
    }
    const OnGpu<uint16_t> values(executor_, x.count());
    const OnGpu<float> scales(executor_, x.rows);
    run("to_halves", calls(executor_).to_halves, dense(x), values.data(), scales.data());
    values.download(reinterpret_cast<uint16_t*>(halves.values));
    scales.download(halves.scales);
  }
  void from_halves(Halves halves, Out x) const override {
    const auto* from = reinterpret_cast<const uint16_t*>(halves.values);
    if (halves.device != nullptr) {
      run("from_halves", calls(executor_).from_halves, from,
          static_cast<const float*>(halves.scales), dense(x));
      return;
    }
    const OnGpu<uint16_t> values(executor_, std::span(from, static_cast<size_t>(x.count())));
    const OnGpu<float> scales(executor_,
                              std::span<const float>(halves.scales, static_cast<size_t>(x.rows)));
    run("from_halves", calls(executor_).from_halves, static_cast<const uint16_t*>(values.data()),
        static_cast<const float*>(scales.data()), dense(x));
  }

  // A sum of a product with 4096 columns and more is written once for four windows of 2048.
  CalibrationBatch batch() const override { return {8192, int64_t{1} << 27, 4096}; }
  void subtract(Out x, In y) const override {
    run("subtract", calls(executor_).subtract, dense(x), dense(y));
  }
  void subtract_row(Out x, In row) const override {
    run("subtract_row", calls(executor_).subtract_row, dense(x), dense(row).data);
  }
  // Through other memory: rows may move to where others still lie.
  void compact(std::span<const int64_t> rows, Out x) const override {
    const auto count = std::ssize(rows);
    if (count == 0) return;
    const Matrix moved = executor_.allocate(count, x.columns, MemoryKind::scratch);
    executor_.gather(x, rows, moved);
    executor_.copy(moved, x.row_range(0, count));
  }

  std::unique_ptr<MomentSums> moment_sums() const override {
    return std::make_unique<CudaMomentSums>(executor_);
  }
  void mirror(Out h) const override { run("mirror", calls(executor_).mirror, dense(h)); }
  void add_columns(In x, Summands summands, std::span<double> sums) const override {
    const OnGpu<double> there(executor_, std::span<const double>(sums));
    run("add_columns", calls(executor_).add_columns, dense(x),
        summands == Summands::magnitudes ? 1 : 0, there.data());
    there.download(sums.data());
  }
  void take_out_means(Out m, std::span<const double> left, std::span<const double> right,
                      int64_t tokens) const override {
    const OnGpu<double> rows(executor_, left), columns(executor_, right);
    run("take_out_means", calls(executor_).take_out_means, dense(m),
        static_cast<const double*>(rows.data()), static_cast<const double*>(columns.data()),
        static_cast<double>(tokens));
  }
  std::vector<float> diagonal(In h) const override {
    const Matrix values = executor_.allocate(h.rows, 1, MemoryKind::scratch);
    executor_.copy(In(h.data, h.rows, 1, h.columns + 1, h.device), values);
    return executor_.download(values);
  }
  void clear_negative_diagonal(Out h) const override {
    run("clear_negative_diagonal", calls(executor_).clear_negative_diagonal, dense(h));
  }
  void scale_moments(In h, std::span<const float> scales, Out scaled) const override {
    const OnGpu<float> there(executor_, scales);
    run("scale_moments", calls(executor_).scale_moments, dense(h),
        static_cast<const float*>(there.data()), dense(scaled));
  }
  std::vector<double> quadratic_forms(std::span<const float> x, In h) const override {
    const int64_t rows = std::ssize(x) / h.rows;
    const OnGpu<float> there(executor_, x);
    const OnGpu<double> sums(executor_, rows);
    sums.clear();
    cuda_forms(executor_, In(there.data(), rows, h.rows, executor_.device()), h, sums.data());
    return sums.download();
  }

  bool factorize(In h, const Damping& damping, const UpperFactor& factor) const override {
    return cuda_factorize(executor_, h, damping, factor);
  }
  void gptq_rows(const GptqTask& task, std::span<const float> weight,
                 const GptqDone& done) const override {
    cuda_gptq_rows(executor_, task, weight, done);
  }
  void clip_rows(const ClipTask& task, std::span<const float> weight,
                 const ClipDone& done) const override {
    cuda_clip_rows(executor_, task, weight, done);
  }
  std::vector<double> rounded_errors(const ScaleTrial& trial) const override {
    return cuda_rounded_errors(executor_, trial);
  }
  std::vector<double> clipped_errors(const ScaleTrial& trial) const override {
    return cuda_clipped_errors(executor_, trial);
  }

 private:
  cuda::ConstView dense(In operand) const { return executor_.dense(operand); }
  cuda::View dense(Out operand) const { return executor_.dense(operand); }
  template <class Call, class... Operands>
  void run(const char* name, Call call, const Operands&... operands) const {
    executor_.run(name, call, operands...);
  }

  const CudaExecutor& executor_;
};

}  // namespace

std::unique_ptr<const CalibrationOps> cuda_calibration(const CudaExecutor& executor) {
  return std::make_unique<CudaCalibration>(executor);
}

int64_t cuda_rows_together(int64_t columns) {
  constexpr int64_t kMostRows = 32768;  // of a grid's second side
  return std::clamp(kMostTogether / columns / kRowLanes * kRowLanes, kRowLanes, kMostRows);
}

cuda::GridShape grid_shape(const GridSettings& settings) {
  const cuda::Number scales = settings.scale_dtype == DType::f16    ? cuda::Number::f16
                              : settings.scale_dtype == DType::bf16 ? cuda::Number::bf16
                                                                    : cuda::Number::f32;
  return {settings.bits, settings.symmetric ? 1 : 0, scales, settings.group_size};
}

void check_scales(const OnGpu<uint32_t>& overflow, const GridSettings& settings,
                  const std::string& module) {
  const uint32_t bits = overflow.download().front();
  if (bits != 0) stored_scale(std::bit_cast<float>(bits), settings.scale_dtype, module);
}

void cuda_multiply(const CudaExecutor& executor, In a, In b, Out c, const CudaProduct& how) {
  const cuda::Multiply task = {executor.view(a), executor.view(b), executor.view(c),
                               how.down ? 1 : 0, how.add ? 1 : 0,  how.factor,
                               how.upper ? 1 : 0};
  executor.run("a product", calls(executor).multiply, &task);
}

// By symmetry: x (2 * what is above some columns of H + their own square).
void cuda_forms(const CudaExecutor& executor, In x, In h, double* sums) {
  const int64_t n = h.rows;
  const int64_t step = std::max(kFormColumns, kFormValues / std::max<int64_t>(x.rows, 1));
  const Matrix product = executor.allocate(x.rows, std::min(n, step), MemoryKind::scratch);
  for (int64_t begin = 0; begin < n; begin += step) {
    const int64_t length = std::min(step, n - begin);
    const Out made = product.view().column_range(0, length);
    const In own = x.column_range(begin, length), columns = h.column_range(begin, length);
    cuda_multiply(executor, own, columns.row_range(begin, length), made, {.down = true});
    if (begin > 0)
      cuda_multiply(executor, x.column_range(0, begin), columns.row_range(0, begin), made,
                    {.down = true, .add = true, .factor = 2});
    executor.run("quadratic_forms", calls(executor).add_forms, executor.view(own),
                 executor.view(In(made)), sums);
  }
}

}  // namespace qwb
