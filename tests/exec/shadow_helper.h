// A device that is none: the operations of another executor, on memory that faults whenever
// anything outside of an operation touches it. What runs on it runs on any device.
#pragma once

#include <sys/mman.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "lib/exec/executor.h"

namespace qwb {

class ShadowDevice : public Device {
 public:
  std::byte* take(int64_t bytes) const override {
    const auto size = static_cast<size_t>(bytes);
    void* data = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
    const std::lock_guard lock(mutex_);
    return ranges_.emplace(static_cast<std::byte*>(data), Range{size, 0}).first->first;
  }
  void give_back(std::byte* data) const noexcept override {
    const std::lock_guard lock(mutex_);
    munmap(data, ranges_.at(data).size);
    ranges_.erase(data);
  }
  // The range around `data` can be touched until it was closed as often as it was opened:
  // operations run side by side.
  void open(const void* data) const { use(data, 1); }
  void close(const void* data) const { use(data, -1); }

 private:
  struct Range {
    size_t size;
    int users;
  };
  void use(const void* data, int change) const {
    const std::lock_guard lock(mutex_);
    auto& [begin, range] = *std::prev(
        ranges_.upper_bound(const_cast<std::byte*>(static_cast<const std::byte*>(data))));
    const bool was_open = range.users > 0;
    range.users += change;
    if (was_open != (range.users > 0))
      mprotect(begin, range.size, was_open ? PROT_NONE : PROT_READ | PROT_WRITE);
  }
  mutable std::mutex mutex_;
  mutable std::map<std::byte*, Range> ranges_;
};

inline const ShadowDevice& shadow_device() {
  static const auto* device = new ShadowDevice;  // outlives every buffer
  return *device;
}

// `inner` must work on the host's memory. seen: told the name of every operation; or null.
class ShadowExecutor : public Executor {
 public:
  explicit ShadowExecutor(std::unique_ptr<const Executor> inner,
                          std::function<void(const std::string&)> seen = nullptr)
      : Executor(inner->threads(), &shadow_device()),
        inner_(std::move(inner)),
        seen_(std::move(seen)) {}
  std::string identity() const override { return inner_->identity(); }
  Products products() const override { return inner_->products(); }

  void copy(In from, Out to) const override {
    Operands on(*this, "copy", true);
    inner_->copy(on(from), on(to));
  }
  Prepared prepare(const Weight& weight, Reuse reuse) const override {
    return inner_->prepare(weight, reuse);
  }
  // The values lie where only operations may touch them: each opens them with its operands.
  Prepared prepare_values(In values) const override {
    const In inside(values.data, values.rows, values.columns, values.stride, nullptr);
    return Prepared(inner_->prepare_values(inside).stored(), std::make_shared<InPlace>(values));
  }
  void linear(const Rows& x, const Affine& module, Out y, Accumulate accumulate) const override {
    Operands on(*this, "linear");
    inner_->linear(on(x), on(module), on(y), accumulate);
  }
  void linears(const Rows& x, std::span<const Output> outputs) const override {
    Operands on(*this, "linears");
    std::vector<Output> opened;
    for (const Output& o : outputs) opened.push_back({on(o.module), on(o.y)});
    inner_->linears(on(x), opened);
  }
  void gated(const Rows& x, const Affine* gate, const Affine& up, Activation activation,
             Out y) const override {
    Operands on(*this, "gated");
    const Affine opened = on(gate != nullptr ? *gate : up);
    inner_->gated(on(x), gate != nullptr ? &opened : nullptr, on(up), activation, on(y));
  }
  void look_up(const Prepared& weight, std::span<const int32_t> ids, Out y) const override {
    Operands on(*this, "look_up");
    inner_->look_up(weight, ids, on(y));
  }
  void gather(In x, std::span<const int64_t> rows, Out y) const override {
    Operands on(*this, "gather");
    inner_->gather(on(x), rows, on(y));
  }
  void scatter_add(In x, std::span<const int64_t> rows, std::span<const float> factors,
                   Out y) const override {
    Operands on(*this, "scatter_add");
    inner_->scatter_add(on(x), rows, factors, on(y));
  }
  void rms_norm(In x, In gain, double eps, Out y) const override {
    Operands on(*this, "rms_norm");
    inner_->rms_norm(on(x), on(gain), eps, on(y));
  }
  void layer_norm(In x, In gain, In bias, double eps, Out y) const override {
    Operands on(*this, "layer_norm");
    inner_->layer_norm(on(x), on(gain), on(bias), eps, on(y));
  }
  void rotate(Out x, int64_t head_dim, In cosine, In sine, RotaryPairs pairs) const override {
    Operands on(*this, "rotate");
    inner_->rotate(on(x), head_dim, on(cosine), on(sine), pairs);
  }
  void attention(In queries, In keys, In values, const AttentionShape& shape,
                 Out y) const override {
    Operands on(*this, "attention");
    inner_->attention(on(queries), on(keys), on(values), shape, on(y));
  }
  void activate(Activation activation, Out x) const override {
    Operands on(*this, "activate");
    inner_->activate(activation, on(x));
  }
  void activate(Activation activation, Out x, In up) const override {
    Operands on(*this, "activate");
    inner_->activate(activation, on(x), on(up));
  }
  void add(Out x, In y) const override {
    Operands on(*this, "add");
    inner_->add(on(x), on(y));
  }
  void fill(Out x, float value) const override {
    Operands on(*this, "fill");
    inner_->fill(on(x), value);
  }
  void scale(Out x, float factor) const override {
    Operands on(*this, "scale");
    inner_->scale(on(x), factor);
  }
  void soft_cap(Out x, float cap) const override {
    Operands on(*this, "soft_cap");
    inner_->soft_cap(on(x), cap);
  }
  void losses(In x, const Prepared& weight, std::span<const int32_t> targets,
              const LogitShape& shape, std::span<double> losses) const override {
    Operands on(*this, "losses");
    inner_->losses(on(x), weight, targets, shape, losses);
  }
  void divergence(In base, In other, std::span<const int32_t> targets,
                  std::span<RowDivergence> differences) const override {
    Operands on(*this, "divergence");
    inner_->divergence(on(base), on(other), targets, differences);
  }
  bool all_finite(In x) const override {
    Operands on(*this, "all_finite");
    return inner_->all_finite(on(x));
  }
  void mark_finite(In x, Out mark) const override {
    Operands on(*this, "mark_finite");
    inner_->mark_finite(on(x), on(mark));
  }

 protected:
  struct InPlace : Prepared::Extra {
    explicit InPlace(In values) : view(values) {}
    In view;
  };
  // The operands of one operation, open while it lives. Those in the host's memory are refused,
  // except by copies.
  class Operands {
   public:
    Operands(const ShadowExecutor& executor, const std::string& operation, bool copies = false)
        : copies_(copies) {
      if (executor.seen_) executor.seen_(operation);
    }
    ~Operands() {
      for (const void* data : opened_) shadow_device().close(data);
    }
    Operands(const Operands&) = delete;
    Operands& operator=(const Operands&) = delete;
    template <class T>
    MatView<T> operator()(MatView<T> view) {
      if (view.empty() || (copies_ && view.device == nullptr)) return on_host(view);
      if (view.device != &shadow_device())
        throw std::logic_error("an operand does not lie on the device");
      shadow_device().open(view.data);
      opened_.push_back(view.data);
      return on_host(view);
    }
    Rows operator()(const Rows& rows) { return {(*this)(rows.values), rows.pieces}; }
    Affine operator()(const Affine& module) {
      if (const auto* values = dynamic_cast<const InPlace*>(module.weight.extra()))
        (*this)(values->view);
      return {module.weight, (*this)(module.bias)};
    }

   private:
    template <class T>
    static MatView<T> on_host(MatView<T> view) {
      view.device = nullptr;
      return view;
    }
    bool copies_;
    std::vector<const void*> opened_;
  };

  const Executor& inner() const { return *inner_; }

 private:
  std::unique_ptr<const Executor> inner_;
  std::function<void(const std::string&)> seen_;
};

}  // namespace qwb
