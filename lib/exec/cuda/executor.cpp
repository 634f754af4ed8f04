#include "lib/exec/cuda/executor.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "lib/codec/dense.h"
#include "lib/exec/cuda/calibration.h"

namespace qwb {
namespace {

cuda::ConstView on_host_view(In operand) {
  return {operand.data, operand.rows, operand.columns, operand.stride};
}
cuda::View on_host_view(Out operand) {
  return {operand.data, operand.rows, operand.columns, operand.stride};
}

}  // namespace

CudaExecutor::CudaExecutor(const CudaDevice& device, Threads threads, Products products)
    : Executor(threads, &device),
      gpu_(device),
      weights_(device),
      products_(products),
      calibration_(cuda_calibration(*this)) {}

CudaExecutor::~CudaExecutor() = default;

std::string CudaExecutor::identity() const {
  const Gpu& card = gpu_.card();
  return "cuda" + std::to_string(cuda::kKernels) + "-sm_" + std::to_string(card.major) +
         std::to_string(card.minor) + "-" + std::to_string(card.processors) + "-" + card.name +
         (products_ == Products::bf16 ? "-bf16" : "");
}

cuda::ConstView CudaExecutor::view(In operand) const {
  if (!operand.empty() && operand.device != &gpu_)
    throw std::logic_error("an operand does not lie on the GPU");
  return on_host_view(operand);
}
cuda::View CudaExecutor::view(Out operand) const {
  view(In(operand));
  return on_host_view(operand);
}
cuda::ConstView CudaExecutor::dense(In operand) const {
  if (!operand.dense()) throw std::logic_error("the rows of an operand are apart");
  return view(operand);
}
cuda::View CudaExecutor::dense(Out operand) const {
  dense(In(operand));
  return on_host_view(operand);
}

void CudaExecutor::copy(In from, Out to) const {
  if (from.count() == 0) return;
  const cuda::Functions& f = gpu_.functions();
  if (from.device == nullptr && to.device == nullptr) {
    for (int64_t r = 0; r < from.rows; ++r)
      std::copy_n(from.data + r * from.stride, from.columns, to.data + r * to.stride);
  } else if (from.device == nullptr) {
    run("copying to the GPU", f.upload_rows, on_host_view(from), view(to));
  } else if (to.device == nullptr) {
    run("copying from the GPU", f.download_rows, view(from), on_host_view(to));
  } else {
    run("copying", f.copy_rows, view(from), view(to));
  }
}

void CudaExecutor::finish() const {
  run("waiting for the GPU", gpu_.functions().finish);
}

Prepared CudaExecutor::prepare(const Weight& weight, Reuse) const {
  return Prepared(weight, weights_.prepare(weight));
}

Prepared CudaExecutor::prepare_values(In values) const {
  const cuda::ConstView in_place = dense(values);
  const Weight weight(dense_layout({values.rows, values.columns, Orientation::out_in}, DType::f32));
  return Prepared(weight, weights_.in_place(weight, in_place.data));
}

std::optional<Prepared> CudaExecutor::prepare_rounded(const Weight& weight) const {
  if (products_ != Products::bf16 || weight.in % cuda::kPartColumns != 0) return std::nullopt;
  return Prepared(Weight(dense_layout({weight.out, weight.in, Orientation::out_in}, DType::bf16)),
                  weights_.rounded(weight));
}

void CudaExecutor::look_up(const Prepared& weight, std::span<const int32_t> ids, Out y) const {
  if (ids.empty()) return;
  run("look_up", gpu_.functions().look_up, &weight_of(weight).stored, ids.data(), dense(y));
}

void CudaExecutor::gather(In x, std::span<const int64_t> rows, Out y) const {
  run("gather", gpu_.functions().gather, view(x), rows.data(),
      view(y.row_range(0, std::ssize(rows))));
}

void CudaExecutor::scatter_add(In x, std::span<const int64_t> rows, std::span<const float> factors,
                               Out y) const {
  run("scatter_add", gpu_.functions().scatter_add, view(x.row_range(0, std::ssize(rows))),
      rows.data(), factors.data(), view(y));
}

void CudaExecutor::rms_norm(In x, In gain, double eps, Out y) const {
  run("rms_norm", gpu_.functions().rms_norm, dense(x), dense(gain).data, static_cast<float>(eps),
      dense(y));
}

void CudaExecutor::layer_norm(In x, In gain, In bias, double eps, Out y) const {
  run("layer_norm", gpu_.functions().layer_norm, dense(x), dense(gain).data, dense(bias).data,
      static_cast<float>(eps), dense(y));
}

void CudaExecutor::rotate(Out x, int64_t head_dim, In cosine, In sine, RotaryPairs pairs) const {
  run("rotate", gpu_.functions().rotate, view(x), head_dim, dense(cosine), dense(sine).data,
      pairs == RotaryPairs::halves ? 1 : 0);
}

void CudaExecutor::attention(In queries, In keys, In values, const AttentionShape& shape,
                             Out y) const {
  if (shape.head_dim > cuda::kMostHeadDim)
    throw Error(ErrorKind::unsupported,
                "heads of " + std::to_string(shape.head_dim) + " values on a GPU", {},
                "at most " + std::to_string(cuda::kMostHeadDim) + " are; --device cpu runs them");
  if (!shape.slopes.empty())
    throw Error(ErrorKind::unsupported, "attention with ALiBi on a GPU", {},
                "--device cpu runs it");
  const cuda::Attention own = {shape.heads,  shape.kv_heads, shape.head_dim,
                               shape.window, shape.scale,    shape.soft_cap};
  const cuda::Functions& f = gpu_.functions();
  const bool rounds = products_ == Products::bf16 && queries.rows > cuda::kFewRows;
  run("attention", rounds ? f.calibration->round_attention : f.attention, view(queries), view(keys),
      view(values), &own, view(y));
}

void CudaExecutor::activate(Activation activation, Out x) const {
  run("activate", gpu_.functions().activate, dense(x), static_cast<const float*>(nullptr),
      static_cast<int>(activation));
}
void CudaExecutor::activate(Activation activation, Out x, In up) const {
  run("activate", gpu_.functions().activate, dense(x), dense(up).data,
      static_cast<int>(activation));
}
void CudaExecutor::add(Out x, In y) const {
  run("add", gpu_.functions().add, dense(x), dense(y));
}
void CudaExecutor::fill(Out x, float value) const {
  run("fill", gpu_.functions().fill, dense(x), value);
}
void CudaExecutor::scale(Out x, float factor) const {
  run("scale", gpu_.functions().scale, dense(x), factor);
}
void CudaExecutor::soft_cap(Out x, float cap) const {
  run("soft_cap", gpu_.functions().soft_cap, dense(x), 1.0f, cap);
}

void CudaExecutor::mark_finite(In x, Out mark) const {
  run("mark_finite", gpu_.functions().mark_finite, dense(x), dense(mark).data);
}
bool CudaExecutor::all_finite(In x) const {
  const Matrix mark = allocate(1, 1, MemoryKind::scratch);
  mark_finite(x, mark);
  return download(mark).front() != 0;
}

void CudaExecutor::divergence(In base, In other, std::span<const int32_t> targets,
                              std::span<RowDivergence> differences) const {
  static_assert(sizeof(cuda::Divergence) % sizeof(float) == 0);
  constexpr int64_t kFloats = sizeof(cuda::Divergence) / sizeof(float);
  if (base.rows == 0) return;
  const Matrix made = allocate(base.rows, kFloats, MemoryKind::scratch);
  const Matrix wanted = allocate(1, base.rows, MemoryKind::scratch);
  const cuda::Functions& f = gpu_.functions();
  std::vector<cuda::Divergence> rows(static_cast<size_t>(base.rows));
  run("divergence", f.upload, targets.data(), wanted.view().data, base.rows * 4);
  run("divergence", f.divergence, dense(base), dense(other),
      reinterpret_cast<const int32_t*>(wanted.view().data),
      reinterpret_cast<cuda::Divergence*>(made.view().data));
  copy(made, Out(reinterpret_cast<float*>(rows.data()), base.rows, kFloats));
  for (size_t i = 0; i < rows.size(); ++i) {
    const cuda::Divergence& row = rows[i];
    differences[i] = {.kl = row.kl,
                      .base_loss = row.base_loss,
                      .other_loss = row.other_loss,
                      .base_top = row.base_top,
                      .other_top = row.other_top,
                      .finite = row.finite != 0};
  }
}

}  // namespace qwb
