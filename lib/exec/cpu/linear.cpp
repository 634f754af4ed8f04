#include "lib/exec/cpu/linear.h"

#include <algorithm>
#include <vector>

#include "lib/base/parallel.h"
#include "lib/codec/dense.h"
#include "lib/codec/int8_rows.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/few_tokens.h"
#include "lib/exec/cpu/int8_product.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/operands.h"
#include "lib/exec/cpu/simd.h"
#include "lib/exec/cpu/slab.h"
#include "lib/exec/cpu/thread_scratch.h"
#include "lib/exec/cpu/tile_product.h"

namespace qwb {
namespace {

constexpr int64_t kColumnGrain = 256;  // output channels one thread takes at a time

// A weight in the panels that products of many tokens read.
struct PackedPanels : Prepared::Extra {
  AlignedBuffer memory;
};

// y = bias in every row, or y += that.
void fill_bias(In bias, Out y, bool add, Threads threads) {
  const float* values = dense(bias);
  parallel_ranges(threads, y.rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (add) {
        simd::add(y.data + t * y.columns, values, y.columns);
      } else {
        std::copy_n(values, y.columns, y.data + t * y.columns);
      }
    }
  });
}

// y = x W^T for many tokens, or y += that.
void linear_many(In x, const Weight& weight, Out y, bool add, Threads threads) {
  const bool straight = weight.orientation == Orientation::out_in;
  const int64_t rows = weight.rows(), step = slab_rows(weight), in = weight.in, out = weight.out;
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    const float* values = slab(weight, begin, begin + count, threads);
    if (straight) {
      matmul({x.rows, count, in}, {x.data, in}, {values, in, true},
             {y.data + begin, out, add ? 1.0f : 0.0f}, threads);
    } else {
      matmul({x.rows, out, count}, {x.data + begin, in}, {values, out},
             {y.data, out, add || begin > 0 ? 1.0f : 0.0f}, threads);
    }
  }
}

// As the right operand of a product, stored rows are lines or steps of the inner dimension.
MatrixLayout slab_layout(const Weight& weight, int64_t rows) {
  const int64_t columns = weight.columns();
  return weight.orientation == Orientation::out_in ? MatrixLayout{rows, columns, columns, true}
                                                   : MatrixLayout{columns, rows, columns, false};
}

// Stored rows [begin, end) as the right operand, rounded to bf16.
void pack_slab(const Weight& weight, int64_t begin, int64_t end, const Panels& panels,
               Threads threads) {
  const int64_t columns = weight.columns();
  const MatrixLayout layout = slab_layout(weight, end - begin);
  if (const auto* dense = weight.as<DenseWeight>()) {
    const std::byte* data = dense->values.bytes.data();
    if (dense->values.dtype == DType::bf16 &&
        reinterpret_cast<uintptr_t>(data) % sizeof(uint16_t) == 0) {
      pack_panels(reinterpret_cast<const uint16_t*>(data) + begin * columns, layout,
                  TileForm::right, panels, threads);
      return;
    }
  }
  pack_panels(slab(weight, begin, end, threads), layout, TileForm::right, panels, threads);
}

Panels narrow_slab(const Weight& weight, int64_t begin, int64_t end, Threads threads) {
  const MatrixLayout layout = slab_layout(weight, end - begin);
  const Panels panels = panels_at(
      narrow_scratch<Narrow::weight>(panel_values(layout.lines, layout.inner)), layout.inner);
  pack_slab(weight, begin, end, panels, threads);
  return panels;
}

// Activations as the left operand, rounded to bf16. Until the thread's next call.
Panels narrow_tokens(In x, Threads threads) {
  const int64_t in = x.columns;
  const Panels left = panels_at(narrow_scratch<Narrow::tokens>(panel_values(x.rows, in)), in);
  pack_panels(x.data, {x.rows, in, in, true}, TileForm::left, left, threads);
  return left;
}

// y = x W^T for many tokens, both rounded to bf16, or y += that.
void linear_narrow(const Panels& left, const Prepared& prepared, Out y, bool add, Threads threads) {
  const Weight& weight = prepared.stored();
  const int64_t tokens = y.rows;
  if (const auto* packed = dynamic_cast<const PackedPanels*>(prepared.extra())) {
    auto* values = reinterpret_cast<uint16_t*>(packed->memory.data());
    return tile_products(left, panels_at(values, weight.in), {tokens, weight.out, weight.in},
                         y.data, weight.out, add, threads);
  }
  const bool straight = weight.orientation == Orientation::out_in;
  const int64_t rows = weight.rows();
  // Stored [in, out], a slab is a part of the inner dimension: whole tiles.
  const int64_t step =
      straight ? slab_rows(weight) : ceil_div(slab_rows(weight), kTileInner) * kTileInner;
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    const Panels right = narrow_slab(weight, begin, begin + count, threads);
    if (straight) {
      tile_products(left, right, {tokens, count, weight.in}, y.data + begin, weight.out, add,
                    threads);
    } else {
      tile_products(left.from(0, begin), right, {tokens, weight.out, count}, y.data, weight.out,
                    add || begin > 0, threads);
    }
  }
}

// The same for one or a few tokens and a weight stored [in, out]: every weight is read once. The
// sums of a token do not depend on how many tokens there are.
void linear_few_in_out(In x, const Weight& weight, Out y, bool add, Threads threads) {
  const int64_t tokens = x.rows;
  parallel_ranges(threads, weight.out, kColumnGrain, [&](int64_t begin, int64_t end) {
    float* values = scratch(end - begin);
    for (int64_t t = 0; t < tokens && !add; ++t)
      std::fill(y.data + t * weight.out + begin, y.data + t * weight.out + end, 0.0f);
    for (int64_t row = 0; row < weight.in; ++row) {
      dequantize_part(weight, row, begin, end - begin, values);
      for (int64_t t = 0; t < tokens; ++t)
        simd::axpy(x.data[t * weight.in + row], values, y.data + t * weight.out + begin,
                   end - begin);
    }
  });
}

}  // namespace

bool LinearWays::in_8_bits(const Weight& weight) const {
  return int8_threshold && weight.as<Int8Rows>() != nullptr;
}

Prepared prepare_linear(const LinearWays& ways, const Weight& weight, Reuse reuse) {
  if (reuse == Reuse::seldom || ways.products != Products::bf16 ||
      weight.out * weight.in > kMostPacked)
    return Prepared(weight);
  auto packed = std::make_shared<PackedPanels>();
  packed->memory = AlignedBuffer(2 * panel_values(weight.out, weight.in));
  pack_slab(weight, 0, weight.rows(),
            panels_at(reinterpret_cast<uint16_t*>(packed->memory.data()), weight.in), ways.threads);
  return Prepared(weight, std::move(packed));
}

namespace {

// Rows that are multiplied at once.
struct Cut {
  int64_t first, rows;
  bool few;
};

// Pieces of few rows that follow each other together if `joins`, every other piece by itself.
template <class Body>
void each_cut(const Rows& x, bool joins, const Body& body) {
  const std::span<const int64_t> pieces = x.pieces;
  if (pieces.empty()) return body(Cut{0, x.values.rows, x.values.rows <= kFewTokens});
  int64_t first = 0;
  for (size_t i = 0; i < pieces.size();) {
    int64_t rows = pieces[i++];
    const bool few = rows <= kFewTokens;
    while (few && joins && i < pieces.size() && pieces[i] <= kFewTokens) rows += pieces[i++];
    body(Cut{first, rows, few});
    first += rows;
  }
}

// left: x packed already, for products in bf16; or null.
void linear_cut(const LinearWays& ways, In x, bool few, const Affine& module, Out y,
                Accumulate accumulate, const Panels* left = nullptr) {
  const Weight& weight = module.weight.stored();
  const bool bias = !module.bias.empty(), sum = accumulate == Accumulate::yes, add = sum || bias;
  const Threads threads = ways.threads;
  if (ways.in_8_bits(weight)) {
    const Int8Activations codes(x.data, x.rows, weight.in, *ways.int8_threshold, threads);
    return int8_product(codes, {weight, 0, weight.out, module.bias.data}, y.data, weight.out, sum,
                        threads);
  }
  if (bias) fill_bias(module.bias, y, sum, threads);
  if (few && weight.orientation == Orientation::out_in) {
    const FewProduct product{&weight, y, add};
    multiply_few(x, {&product, 1}, threads);
  } else if (few) {
    linear_few_in_out(x, weight, y, add, threads);
  } else if (ways.products == Products::bf16) {
    linear_narrow(left != nullptr ? *left : narrow_tokens(x, threads), module.weight, y, add,
                  threads);
  } else {
    linear_many(x, weight, y, add, threads);
  }
}

}  // namespace

void linear(const LinearWays& ways, const Rows& x, const Affine& module, Out y,
            Accumulate accumulate) {
  dense(x.values), dense(y);
  // Outliers are columns of a whole call: every sequence has its own.
  const bool joins = !ways.in_8_bits(module.weight.stored());
  each_cut(x, joins, [&](const Cut& cut) {
    linear_cut(ways, x.values.row_range(cut.first, cut.rows), cut.few, module,
               y.row_range(cut.first, cut.rows), accumulate);
  });
}

namespace {

// Few rows: the weights that can be are read in one loop.
void linears_few(const LinearWays& ways, In x, std::span<const Executor::Output> outputs,
                 int64_t first) {
  static thread_local std::vector<FewProduct> together;
  together.clear();
  for (const Executor::Output& o : outputs) {
    const Weight& weight = o.module.weight.stored();
    const Out y = o.y.row_range(first, x.rows);
    if (weight.orientation == Orientation::in_out) {
      linear_cut(ways, x, true, o.module, y, Accumulate::no);
      continue;
    }
    const bool bias = !o.module.bias.empty();
    if (bias) fill_bias(o.module.bias, y, false, ways.threads);
    together.push_back({&weight, y, bias});
  }
  multiply_few(x, together, ways.threads);
}

}  // namespace

void linears(const LinearWays& ways, const Rows& x, std::span<const Executor::Output> outputs) {
  const bool any_in_8_bits = std::ranges::any_of(
      outputs, [&](const Executor::Output& o) { return ways.in_8_bits(o.module.weight.stored()); });
  if (any_in_8_bits || outputs.empty()) {
    for (const Executor::Output& o : outputs) linear(ways, x, o.module, o.y, Accumulate::no);
    return;
  }
  dense(x.values);
  for (const Executor::Output& o : outputs) dense(o.y);
  each_cut(x, true, [&](const Cut& cut) {
    const In some = x.values.row_range(cut.first, cut.rows);
    if (cut.few) return linears_few(ways, some, outputs, cut.first);
    const bool narrow = ways.products == Products::bf16;
    const Panels left = narrow ? narrow_tokens(some, ways.threads) : Panels{};
    for (const Executor::Output& o : outputs)
      linear_cut(ways, some, false, o.module, o.y.row_range(cut.first, cut.rows), Accumulate::no,
                 narrow ? &left : nullptr);
  });
}

}  // namespace qwb
