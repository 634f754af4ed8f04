// The executor on an NVIDIA GPU: exact arithmetic, f32 products and sums, weights as they are
// stored; or, for calibration, products of many rows whose operands are rounded to bf16. Its
// operations return before they have ended, but for those that give numbers to the host.
#pragma once

#include <memory>
#include <string>

#include "lib/exec/cuda/device.h"
#include "lib/exec/cuda/weights.h"
#include "lib/exec/executor.h"

namespace qwb {

class CudaExecutor final : public Executor {
 public:
  // products: bf16 for calibration, on cards that have tensor cores for it.
  CudaExecutor(const CudaDevice& device, Threads threads, Products products = Products::f32);
  ~CudaExecutor() override;
  std::string identity() const override;
  Products products() const override { return products_; }
  const CalibrationOps& calibration() const override { return *calibration_; }

  void copy(In from, Out to) const override;
  void finish() const override;
  Prepared prepare(const Weight& weight, Reuse reuse) const override;
  Prepared prepare_values(In values) const override;
  std::optional<Prepared> prepare_rounded(const Weight& weight) const override;
  void linear(const Rows& x, const Affine& module, Out y, Accumulate accumulate) const override;
  void linears(const Rows& x, std::span<const Output> outputs) const override;
  void gated(const Rows& x, const Affine* gate, const Affine& up, Activation activation,
             Out y) const override;
  void look_up(const Prepared& weight, std::span<const int32_t> ids, Out y) const override;
  void gather(In x, std::span<const int64_t> rows, Out y) const override;
  void scatter_add(In x, std::span<const int64_t> rows, std::span<const float> factors,
                   Out y) const override;
  void rms_norm(In x, In gain, double eps, Out y) const override;
  void layer_norm(In x, In gain, In bias, double eps, Out y) const override;
  void rotate(Out x, int64_t head_dim, In cosine, In sine, RotaryPairs pairs) const override;
  void attention(In queries, In keys, In values, const AttentionShape& shape, Out y) const override;
  void activate(Activation activation, Out x) const override;
  void activate(Activation activation, Out x, In up) const override;
  void add(Out x, In y) const override;
  void fill(Out x, float value) const override;
  void scale(Out x, float factor) const override;
  void soft_cap(Out x, float cap) const override;
  void losses(In x, const Prepared& weight, std::span<const int32_t> targets,
              const LogitShape& shape, std::span<double> losses) const override;
  void divergence(In base, In other, std::span<const int32_t> targets,
                  std::span<RowDivergence> differences) const override;
  bool all_finite(In x) const override;
  void mark_finite(In x, Out mark) const override;

  // For the operations of calibration too (calibration.h).
  const cuda::Functions& functions() const { return gpu_.functions(); }
  // The operand as the kernels take it. Throws std::logic_error if it lies elsewhere; dense(): or
  // if its rows are apart.
  cuda::ConstView view(In operand) const;
  cuda::View view(Out operand) const;
  cuda::ConstView dense(In operand) const;
  cuda::View dense(Out operand) const;
  // Puts an operation into the queue: call(queue, operands...).
  template <class Call, class... Operands>
  void run(const char* name, Call call, const Operands&... operands) const {
    const auto held = gpu_.lock();
    gpu_.check(call(gpu_.queue(), operands...), name);
  }

 private:
  // products.cpp
  class Slabs;
  void many_rows(In x, const Affine& module, Out y, bool add) const;
  void rounded_rows(In x, const Affine& module, Out y, bool add) const;  // rounded_products.cpp
  void few_rows(In x, std::span<const Output> outputs, bool add) const;
  void few_rows_of_one(In x, const Output& output, bool add) const;
  const CudaWeight& weight_of(const Prepared& weight) const;
  cuda::FewProduct few_product(const Output& output) const;

  const CudaDevice& gpu_;
  CudaWeights weights_;
  Products products_;
  std::unique_ptr<const CalibrationOps> calibration_;
};

}  // namespace qwb
