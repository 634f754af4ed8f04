// Products of the GPU's executor. Up to kFewRows rows of a sequence read the codes themselves; more
// multiply the weight as f32, a slab of it at a time. Both sum a row's values in an order that no
// other row changes.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "lib/exec/cuda/executor.h"

namespace qwb {
namespace {

constexpr int64_t kSlabBytes = int64_t{256} << 20;  // of a weight that are ready at a time, at most
constexpr int64_t kVocabularyRows = 8192;           // logits of a row that are held at a time
constexpr int kPartsOfX = 3;

// Tensor cores cut sums off where f32 units round them.
enum class Sums { cut_off, rounded };

bool aligned_rows(In x) {
  return x.stride % 4 == 0 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
}

// body(first row, rows, few): pieces of few rows that follow each other together, every other piece
// by itself.
template <class Body>
void each_cut_of(const Rows& x, const Body& body) {
  const auto few = [](int64_t rows) { return rows <= cuda::kFewRows; };
  if (x.pieces.empty()) return body(int64_t{0}, x.values.rows, few(x.values.rows));
  int64_t first = 0;
  for (size_t i = 0; i < x.pieces.size();) {
    int64_t rows = x.pieces[i++];
    const bool short_piece = few(rows);
    while (short_piece && i < x.pieces.size() && few(x.pieces[i])) rows += x.pieces[i++];
    body(first, rows, short_piece);
    first += rows;
  }
}

}  // namespace

const CudaWeight& CudaExecutor::weight_of(const Prepared& weight) const {
  const auto* own = dynamic_cast<const CudaWeight*>(weight.extra());
  if (own == nullptr) throw std::logic_error("a weight was not prepared for the GPU");
  return *own;
}

cuda::FewProduct CudaExecutor::few_product(const Output& output) const {
  cuda::FewProduct product = {};
  product.weight = weight_of(output.module.weight).packed;
  product.bias = view(output.module.bias).data;
  product.y = view(output.y).data;
  product.y_stride = output.y.stride;
  return product;
}

void CudaExecutor::few_rows_of_one(In x, const Output& output, bool add) const {
  const CudaWeight& weight = weight_of(output.module.weight);
  for (int64_t first = 0; first < x.rows; first += cuda::kFewRows) {
    const int64_t count = std::min<int64_t>(cuda::kFewRows, x.rows - first);
    run("linear", gpu_.functions().few_plain, view(x.row_range(first, count)), &weight.stored,
        view(output.module.bias).data, view(output.y.row_range(first, count)), add ? 1 : 0);
  }
}

// Modules that are packed in one way and follow each other are multiplied in one launch.
void CudaExecutor::few_rows(In x, std::span<const Output> outputs, bool add) const {
  for (size_t i = 0; i < outputs.size();) {
    const cuda::Packing packing = weight_of(outputs[i].module.weight).packed.packing;
    if (packing == cuda::Packing::none || !aligned_rows(x)) {
      few_rows_of_one(x, outputs[i++], add);
      continue;
    }
    std::vector<cuda::FewProduct> together;
    while (i < outputs.size() && together.size() < cuda::kMostTogether &&
           weight_of(outputs[i].module.weight).packed.packing == packing)
      together.push_back(few_product(outputs[i++]));
    run("linear", gpu_.functions().few_rows, view(x), together.data(),
        static_cast<int>(together.size()), add ? 1 : 0);
  }
}

// A product of many rows with a weight, a slab of its channels at a time: as parts on tensor cores,
// or as f32 where sums are to be rounded and on a card without.
class CudaExecutor::Slabs {
 public:
  Slabs(const CudaExecutor& executor, In x, const Prepared& weight, Sums sums,
        int64_t most_channels)
      : executor_(executor), x_(x), stored_(executor.weight_of(weight).stored) {
    const cuda::Functions& f = executor.gpu_.functions();
    if (sums == Sums::cut_off) slab_parts_ = f.parts(executor.gpu_.queue(), &stored_);
    const int64_t bytes = slab_parts_.count == 0 ? 4 : 2 * slab_parts_.count;
    const int64_t channels = kSlabBytes / bytes / std::max<int64_t>(stored_.in, 1) / 128 * 128;
    step_ = std::clamp<int64_t>(channels, 1, std::min(stored_.out, most_channels));
    if (slab_parts_.count == 0) {
      slab_ = executor.allocate(step_, stored_.in, MemoryKind::scratch);
      return;
    }
    slab_parts_.rows = step_;
    take(slab_parts_, slab_);
    if (slab_parts_.groups > 0) {
      scales_ = executor.allocate(step_, slab_parts_.groups, MemoryKind::scratch);
      slab_parts_.scales = scales_.view().data;
    }
    x_parts_.rows = x.rows, x_parts_.columns = slab_parts_.columns, x_parts_.count = kPartsOfX;
    take(x_parts_, rows_);
    executor.run("linear", f.split, executor.view(x), x_parts_);
  }

  int64_t step() const { return step_; }

  // The channels from `first` on, as many as y has columns.
  void multiply(int64_t first, In bias, Out y, bool add) const {
    const cuda::Functions& f = executor_.gpu_.functions();
    if (slab_parts_.count == 0) {
      const Out values = slab_.view().row_range(0, y.columns);
      executor_.run("linear", f.dequantize, &stored_, first, executor_.view(values));
      executor_.run("linear", f.product, executor_.view(x_), executor_.view(In(values)),
                    executor_.view(bias).data, executor_.view(y), add ? 1 : 0);
      return;
    }
    cuda::Parts slab = slab_parts_;
    slab.rows = y.columns;
    executor_.run("linear", f.dequantize_parts, &stored_, first, slab);
    executor_.run("linear", f.product_of_parts, x_parts_, slab, executor_.view(bias).data,
                  executor_.view(y), add ? 1 : 0);
  }

 private:
  void take(cuda::Parts& parts, Matrix& room) const {
    room = executor_.allocate(parts.count * parts.rows, parts.columns / 2, MemoryKind::scratch);
    parts.data = reinterpret_cast<uint16_t*>(room.view().data);
  }

  const CudaExecutor& executor_;
  In x_;
  const cuda::StoredWeight& stored_;
  int64_t step_ = 1;
  Matrix slab_, scales_, rows_;
  cuda::Parts slab_parts_ = {}, x_parts_ = {};
};

void CudaExecutor::many_rows(In x, const Affine& module, Out y, bool add) const {
  if (products_ == Products::bf16) return rounded_rows(x, module, y, add);
  const Slabs slabs(*this, x, module.weight, Sums::cut_off, y.columns);
  for (int64_t first = 0; first < y.columns; first += slabs.step()) {
    const int64_t count = std::min(slabs.step(), y.columns - first);
    const In bias = module.bias.empty() ? In() : module.bias.column_range(first, count);
    slabs.multiply(first, bias, y.column_range(first, count), add);
  }
}

void CudaExecutor::linear(const Rows& x, const Affine& module, Out y, Accumulate accumulate) const {
  dense(x.values), dense(y);
  const bool add = accumulate == Accumulate::yes;
  each_cut_of(x, [&](int64_t first, int64_t rows, bool few) {
    const In own = x.values.row_range(first, rows);
    const Output output{module, y.row_range(first, rows)};
    if (few) return few_rows(own, {&output, 1}, add);
    many_rows(own, module, output.y, add);
  });
}

void CudaExecutor::linears(const Rows& x, std::span<const Output> outputs) const {
  dense(x.values);
  for (const Output& output : outputs) dense(output.y);
  each_cut_of(x, [&](int64_t first, int64_t rows, bool few) {
    const In own = x.values.row_range(first, rows);
    std::vector<Output> cut;
    for (const Output& o : outputs) cut.push_back({o.module, o.y.row_range(first, rows)});
    if (few) return few_rows(own, cut, false);
    for (const Output& o : cut) many_rows(own, o.module, o.y, false);
  });
}

void CudaExecutor::gated(const Rows& x, const Affine* gate, const Affine& up, Activation activation,
                         Out y) const {
  const auto packing_of = [&](const Affine& module) {
    return weight_of(module.weight).packed.packing;
  };
  const bool together = gate != nullptr && packing_of(*gate) != cuda::Packing::none &&
                        packing_of(*gate) == packing_of(up) && aligned_rows(x.values);
  if (!together) return Executor::gated(x, gate, up, activation, y);
  dense(x.values), dense(y);
  each_cut_of(x, [&](int64_t first, int64_t rows, bool few) {
    const In own = x.values.row_range(first, rows);
    const Out part = y.row_range(first, rows);
    if (!few) return Executor::gated(own, gate, up, activation, part);
    const cuda::FewProduct left = few_product({*gate, part}), right = few_product({up, part});
    run("gated", gpu_.functions().few_gated, view(own), &left, &right,
        static_cast<int>(activation));
  });
}

void CudaExecutor::losses(In x, const Prepared& weight, std::span<const int32_t> targets,
                          const LogitShape& shape, std::span<double> losses) const {
  const Weight& stored = weight.stored();
  if (x.rows == 0) return;
  dense(x);
  const cuda::Functions& f = gpu_.functions();
  constexpr int64_t kFloats = sizeof(cuda::RunningLoss) / sizeof(float);
  const Matrix running = allocate(x.rows, kFloats, MemoryKind::scratch);
  const Matrix wanted = allocate(1, x.rows, MemoryKind::scratch);
  auto* sums = reinterpret_cast<cuda::RunningLoss*>(running.view().data);
  const Slabs slabs(*this, x, weight, Sums::rounded, kVocabularyRows);
  const int64_t step = slabs.step();
  const Matrix logits = allocate(x.rows, step, MemoryKind::scratch);
  run("losses", f.upload, targets.data(), wanted.view().data, x.rows * 4);
  run("losses", f.begin_losses, x.rows, sums);
  for (int64_t first = 0; first < stored.out; first += step) {
    const int64_t count = std::min(step, stored.out - first);
    const Out made = logits.view().as(x.rows, count);
    slabs.multiply(first, In(), made, false);
    if (shape.cap != 0) {
      run("losses", f.soft_cap, view(made), shape.scale, shape.cap);
    } else if (shape.scale != 1) {
      scale(made, shape.scale);
    }
    run("losses", f.add_losses, view(In(made)), first,
        reinterpret_cast<const int32_t*>(wanted.view().data), sums);
  }
  std::vector<cuda::RunningLoss> rows(static_cast<size_t>(x.rows));
  copy(running, Out(reinterpret_cast<float*>(rows.data()), x.rows, kFloats));
  for (size_t i = 0; i < rows.size(); ++i) {
    losses[i] = static_cast<double>(rows[i].maximum) + std::log(rows[i].sum) -
                static_cast<double>(rows[i].chosen);
  }
}

}  // namespace qwb
