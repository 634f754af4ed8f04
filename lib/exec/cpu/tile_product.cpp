#include "lib/exec/cpu/tile_product.h"

#include <algorithm>
#include <atomic>

#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/isa.h"
#include "lib/exec/cpu/tile_block.h"

namespace qwb {
namespace {

// Lines and columns of C that a thread takes at a time: large parts read the operands less often,
// small ones leave work for every thread. Sums do not depend on it.
constexpr int64_t kPart = 256, kLargePart = 512;

std::vector<const TileUnit*> units() {
  std::vector<const TileUnit*> found;
  for (const TileUnit* unit : {amx_unit(), avx512_bf16_unit()}) {
    if (unit != nullptr) found.push_back(unit);
  }
  found.push_back(plain_unit());
  return found;
}

const TileUnit* best_unit() {
  return isa_name() == available_isas().front() ? units().front() : plain_unit();
}

std::atomic<const TileUnit*>& chosen_unit() {
  static std::atomic<const TileUnit*> chosen = best_unit();
  return chosen;
}

// A block at the edge of C: only `rows` by `columns` of it exist.
void edge_block(const TileUnit& unit, const BlockOperands& operands, int64_t steps, int64_t rows,
                int64_t columns, const BlockSums& sums) {
  alignas(64) float whole[kBlock * kBlock] = {};
  for (int64_t i = 0; sums.add && i < rows; ++i)
    std::copy_n(sums.c + i * sums.stride, columns, whole + i * kBlock);
  unit.block(operands, steps, {whole, kBlock, sums.add, nullptr});
  for (int64_t i = 0; i < rows; ++i)
    std::copy_n(whole + i * kBlock, columns, sums.c + i * sums.stride);
}

// All of C; upper: only what is on and above its diagonal need be right.
struct WholeProduct {
  const TileUnit& unit;
  const Panels &a, &b;
  const ProductShape& shape;
  float* c;
  int64_t stride;
  bool upper;

  void add_steps(int64_t step, int64_t steps, bool add) const;
};

// Steps [step, step + steps). The panels of B stay near while those of A go by.
void WholeProduct::add_steps(int64_t step, int64_t steps, bool add) const {
  const ProductShape& s = shape;
  // Where the second panel is missing the first one stands in, and what comes of it is not kept.
  const auto second = [](int64_t line, int64_t lines) { return line + kTileLines < lines ? 1 : 0; };
  for (int64_t j = 0; j < s.n; j += kBlock) {
    const int64_t pb = j / kTileLines, columns = std::min(kBlock, s.n - j);
    for (int64_t i = 0; i < (upper ? std::min(s.m, j + kBlock) : s.m); i += kBlock) {
      const int64_t pa = i / kTileLines, rows = std::min(kBlock, s.m - i);
      const BlockOperands operands = {a.tile(pa, step), a.tile(pa + second(i, s.m), step),
                                      b.tile(pb, step), b.tile(pb + second(j, s.n), step)};
      float* sums = c + i * stride + j;
      if (rows == kBlock && columns == kBlock) {
        unit.block(operands, steps,
                   {sums, stride, add, i + 2 * kBlock <= s.m ? sums + kBlock * stride : nullptr});
      } else {
        edge_block(unit, operands, steps, rows, columns, {sums, stride, add, nullptr});
      }
    }
  }
}

}  // namespace

std::string bf16_units() {
  const TileUnit* unit = chosen_unit();
  return unit == plain_unit() ? "" : unit->name;
}

std::vector<std::string> available_bf16_units() {
  std::vector<std::string> names;
  for (const TileUnit* unit : units()) names.emplace_back(unit->name);
  return names;
}

void force_bf16_units(const std::string& name) {
  if (name.empty()) {
    chosen_unit() = best_unit();
    return;
  }
  for (const TileUnit* unit : units()) {
    if (unit->name == name) {
      chosen_unit() = unit;
      return;
    }
  }
  throw Error(ErrorKind::unsupported, "this machine has no " + name);
}

void tile_product(const Panels& a, const Panels& b, const ProductShape& shape, float* c,
                  int64_t stride_c, bool add, bool upper) {
  const WholeProduct whole = {*chosen_unit(), a, b, shape, c, stride_c, upper};
  const TileUnit& unit = whole.unit;
  const int64_t steps = ceil_div(shape.k, kTileInner);
  unit.begin();
  // Equal runs of steps: a short rest would load and store all of C for little.
  const int64_t runs = ceil_div(steps, unit.steps),
                run = ceil_div(steps, std::max<int64_t>(1, runs));
  for (int64_t step = 0; step < steps; step += run)
    whole.add_steps(step, std::min(run, steps - step), add || step > 0);
  unit.end();
}

void tile_products(const Panels& a, const Panels& b, const ProductShape& shape, float* c,
                   int64_t stride_c, bool add, Threads threads) {
  const bool many =
      ceil_div(shape.m, kLargePart) * ceil_div(shape.n, kLargePart) >= 4 * threads.count();
  const int64_t size = many ? kLargePart : kPart, columns = ceil_div(shape.n, size);
  parallel_for(threads, ceil_div(shape.m, size) * columns, [&](int64_t part) {
    const int64_t i = part / columns * size, j = part % columns * size;
    const ProductShape own = {std::min(size, shape.m - i), std::min(size, shape.n - j), shape.k};
    tile_product(a.from(i, 0), b.from(j, 0), own, c + i * stride_c + j, stride_c, add, false);
  });
}

}  // namespace qwb
