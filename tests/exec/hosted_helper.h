// A device's executor on the host's memory: every operation copies its operands there and what it
// wrote back. What is written for the processor's operands then tests any device.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lib/exec/executor.h"

namespace qwb {

class HostedExecutor : public Executor {
 public:
  explicit HostedExecutor(const Executor& inner) : Executor(inner.threads()), inner_(inner) {}
  std::string identity() const override { return inner_.identity(); }

  void copy(In from, Out to) const override {
    Operands on(inner_);
    inner_.copy(on(from), on(to));
  }
  Prepared prepare(const Weight& weight, Reuse reuse) const override {
    return inner_.prepare(weight, reuse);
  }
  void linear(const Rows& x, const Affine& module, Out y, Accumulate accumulate) const override {
    Operands on(inner_);
    inner_.linear(on(x), on(module), on(y), accumulate);
  }
  void linears(const Rows& x, std::span<const Output> outputs) const override {
    Operands on(inner_);
    std::vector<Output> there;
    for (const Output& o : outputs) there.push_back({on(o.module), on(o.y)});
    inner_.linears(on(x), there);
  }
  void gated(const Rows& x, const Affine* gate, const Affine& up, Activation activation,
             Out y) const override {
    Operands on(inner_);
    const Affine there = on(gate != nullptr ? *gate : up);
    inner_.gated(on(x), gate != nullptr ? &there : nullptr, on(up), activation, on(y));
  }
  void look_up(const Prepared& weight, std::span<const int32_t> ids, Out y) const override {
    Operands on(inner_);
    inner_.look_up(weight, ids, on(y));
  }
  void gather(In x, std::span<const int64_t> rows, Out y) const override {
    Operands on(inner_);
    inner_.gather(on(x), rows, on(y));
  }
  void scatter_add(In x, std::span<const int64_t> rows, std::span<const float> factors,
                   Out y) const override {
    Operands on(inner_);
    inner_.scatter_add(on(x), rows, factors, on(y));
  }
  void rms_norm(In x, In gain, double eps, Out y) const override {
    Operands on(inner_);
    inner_.rms_norm(on(x), on(gain), eps, on(y));
  }
  void layer_norm(In x, In gain, In bias, double eps, Out y) const override {
    Operands on(inner_);
    inner_.layer_norm(on(x), on(gain), on(bias), eps, on(y));
  }
  void rotate(Out x, int64_t head_dim, In cosine, In sine, RotaryPairs pairs) const override {
    Operands on(inner_);
    inner_.rotate(on(x), head_dim, on(cosine), on(sine), pairs);
  }
  void attention(In queries, In keys, In values, const AttentionShape& shape,
                 Out y) const override {
    Operands on(inner_);
    inner_.attention(on(queries), on(keys), on(values), shape, on(y));
  }
  void activate(Activation activation, Out x) const override {
    Operands on(inner_);
    inner_.activate(activation, on(x));
  }
  void activate(Activation activation, Out x, In up) const override {
    Operands on(inner_);
    inner_.activate(activation, on(x), on(up));
  }
  void add(Out x, In y) const override {
    Operands on(inner_);
    inner_.add(on(x), on(y));
  }
  void fill(Out x, float value) const override {
    Operands on(inner_);
    inner_.fill(on(x), value);
  }
  void scale(Out x, float factor) const override {
    Operands on(inner_);
    inner_.scale(on(x), factor);
  }
  void soft_cap(Out x, float cap) const override {
    Operands on(inner_);
    inner_.soft_cap(on(x), cap);
  }
  void losses(In x, const Prepared& weight, std::span<const int32_t> targets,
              const LogitShape& shape, std::span<double> losses) const override {
    Operands on(inner_);
    inner_.losses(on(x), weight, targets, shape, losses);
  }
  void divergence(In base, In other, std::span<const int32_t> targets,
                  std::span<RowDivergence> differences) const override {
    Operands on(inner_);
    inner_.divergence(on(base), on(other), targets, differences);
  }
  bool all_finite(In x) const override {
    Operands on(inner_);
    return inner_.all_finite(on(x));
  }

 private:
  // The operands of one operation; those that can be written come back when it is over. Rows that
  // are apart are apart there too.
  class Operands {
   public:
    explicit Operands(const Executor& inner) : inner_(inner) {}
    ~Operands() {
      for (const auto& [there, here] : written_) inner_.copy(there, here);
    }
    Operands(const Operands&) = delete;
    Operands& operator=(const Operands&) = delete;
    In operator()(In view) { return view.empty() ? view : In(place(view)); }
    Out operator()(Out view) {
      const Out there = place(view);
      written_.emplace_back(there, view);
      return there;
    }
    Rows operator()(const Rows& rows) { return {(*this)(rows.values), rows.pieces}; }
    Affine operator()(const Affine& module) { return {module.weight, (*this)(module.bias)}; }

   private:
    Out place(In view) {
      const Matrix& whole =
          kept_.emplace_back(inner_.allocate(view.rows, view.dense() ? view.columns : view.stride));
      const Out there = whole.view().column_range(0, view.columns);
      inner_.copy(view, there);
      return there;
    }
    const Executor& inner_;
    std::deque<Matrix> kept_;
    std::vector<std::pair<Out, Out>> written_;
  };

  const Executor& inner_;
};

}  // namespace qwb
