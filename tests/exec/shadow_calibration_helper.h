// The shadow device (shadow_helper.h) with calibration.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lib/exec/calibration.h"
#include "tests/exec/shadow_helper.h"

namespace qwb {

class ShadowCalibration : public ShadowExecutor, private CalibrationOps {
 public:
  using ShadowExecutor::ShadowExecutor;
  const CalibrationOps& calibration() const override { return *this; }

 private:
  const CalibrationOps& ops() const { return inner().calibration(); }

  void to_halves(In x, Halves halves) const override {
    Operands on(*this, "to_halves");
    ops().to_halves(on(x), halves);
  }
  void from_halves(Halves halves, Out x) const override {
    Operands on(*this, "from_halves");
    ops().from_halves(halves, on(x));
  }
  void subtract(Out x, In y) const override {
    Operands on(*this, "subtract");
    ops().subtract(on(x), on(y));
  }
  void subtract_row(Out x, In row) const override {
    Operands on(*this, "subtract_row");
    ops().subtract_row(on(x), on(row));
  }
  void compact(std::span<const int64_t> rows, Out x) const override {
    Operands on(*this, "compact");
    ops().compact(rows, on(x));
  }

  class Sums : public MomentSums {
   public:
    explicit Sums(const ShadowCalibration& executor)
        : executor_(executor), inner_(executor.ops().moment_sums()) {}
    void add(In x, Out h, In aims, Out cross) override {
      Operands on(executor_, "moments");
      inner_->add(on(x), on(h), on(aims), on(cross));
    }

   private:
    const ShadowCalibration& executor_;
    std::unique_ptr<MomentSums> inner_;
  };
  std::unique_ptr<MomentSums> moment_sums() const override { return std::make_unique<Sums>(*this); }

  void mirror(Out h) const override {
    Operands on(*this, "mirror");
    ops().mirror(on(h));
  }
  void add_columns(In x, Summands summands, std::span<double> sums) const override {
    Operands on(*this, "add_columns");
    ops().add_columns(on(x), summands, sums);
  }
  void take_out_means(Out m, std::span<const double> left, std::span<const double> right,
                      int64_t tokens) const override {
    Operands on(*this, "take_out_means");
    ops().take_out_means(on(m), left, right, tokens);
  }
  std::vector<float> diagonal(In h) const override {
    Operands on(*this, "diagonal");
    return ops().diagonal(on(h));
  }
  void clear_negative_diagonal(Out h) const override {
    Operands on(*this, "clear_negative_diagonal");
    ops().clear_negative_diagonal(on(h));
  }
  void scale_moments(In h, std::span<const float> scales, Out scaled) const override {
    Operands on(*this, "scale_moments");
    ops().scale_moments(on(h), scales, on(scaled));
  }
  std::vector<double> quadratic_forms(std::span<const float> x, In h) const override {
    Operands on(*this, "quadratic_forms");
    return ops().quadratic_forms(x, on(h));
  }
  bool factorize(In h, const Damping& damping, const UpperFactor& factor) const override {
    Operands on(*this, "factorize");
    return ops().factorize(on(h), damping, opened(on, factor));
  }
  void gptq_rows(const GptqTask& task, std::span<const float> weight,
                 const GptqDone& done) const override {
    Operands on(*this, "gptq_rows");
    GptqTask there = task;
    there.factor = opened(on, task.factor);
    there.hessian = on(task.hessian);
    there.drift = on(task.drift);
    there.wanted = on(task.wanted);
    ops().gptq_rows(there, weight, done);
  }
  void clip_rows(const ClipTask& task, std::span<const float> weight,
                 const ClipDone& done) const override {
    Operands on(*this, "clip_rows");
    ClipTask there = task;
    there.hessian = on(task.hessian);
    ops().clip_rows(there, weight, done);
  }
  std::vector<double> rounded_errors(const ScaleTrial& trial) const override {
    Operands on(*this, "rounded_errors");
    return ops().rounded_errors(opened(on, trial));
  }
  std::vector<double> clipped_errors(const ScaleTrial& trial) const override {
    Operands on(*this, "clipped_errors");
    return ops().clipped_errors(opened(on, trial));
  }

  static UpperFactor opened(Operands& on, const UpperFactor& factor) {
    return {on(factor.upper), on(factor.inverses), on(factor.diagonal)};
  }
  static ScaleTrial opened(Operands& on, const ScaleTrial& trial) {
    return {trial.weight, trial.scales, trial.grid, trial.fixed, on(trial.hessian), trial.module};
  }
};

}  // namespace qwb
