// Products of lib/exec/cpu/matmul.h in GFLOP/s: in single precision, also as a share of what the
// vector units can do ("of_peak"; measured before), and of bf16 operands by the unit in the
// benchmark's label, packing included.
#include <benchmark/benchmark.h>

#include "lib/base/rng.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/tile_product.h"
#include "lib/tensor/tensor.h"
#include "tests/bench/peak_helper.h"

namespace qwb {
namespace {

FloatBuffer random_floats(int64_t count) {
  Rng rng(1);
  FloatBuffer floats(count);
  for (int64_t i = 0; i < count; ++i) floats[i] = static_cast<float>(rng.uniform() - 0.5);
  return floats;
}

void report(benchmark::State& state, double flop) {
  static const double peak = bench::peak_gflops();
  const double done = flop * 1e-9 * static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = benchmark::Counter(done, benchmark::Counter::kIsRate);
  state.counters["of_peak"] = benchmark::Counter(done / peak, benchmark::Counter::kIsRate);
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"tokens", "out", "in"})
      ->Args({512, 640, 256})  // the demo llama
      ->Args({512, 1536, 576})
      ->Args({512, 576, 1536})
      ->Args({1024, 4096, 4096});
}

// m tokens, n output and k input channels.
void product(benchmark::State& state) {
  const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const FloatBuffer a = random_floats(m * k), b = random_floats(n * k), c(m * n);
  for (auto _ : state) {
    matmul({m, n, k}, {a.data(), k}, {b.data(), k, true}, {c.data(), n});
    benchmark::ClobberMemory();
  }
  report(state, 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k));
}
BENCHMARK(product)
    ->Apply(shapes)
    ->Args({1, 4096, 4096})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

// Second moments of n channels over 2048 tokens: only one triangle is computed, and counted.
void moments(benchmark::State& state) {
  const int64_t rows = 2048, n = state.range(0);
  const FloatBuffer x = random_floats(rows * n), h(n * n);
  for (int64_t i = 0; i < n * n; ++i) h[i] = 0;
  for (auto _ : state) {
    add_moments(Operand(x.data(), rows, n, Products::f32), rows, h.data());
    benchmark::ClobberMemory();
  }
  report(state, static_cast<double>(rows) * static_cast<double>(n) * static_cast<double>(n + 1));
}
BENCHMARK(moments)
    ->ArgName("channels")
    ->Arg(576)
    ->Arg(1536)
    ->Arg(4096)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

void report_bf16(benchmark::State& state, double flop) {
  state.SetLabel(bf16_units().empty() ? "plain" : bf16_units());
  state.counters["GFLOP/s"] = benchmark::Counter(
      flop * 1e-9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

// weights: as they come, in bf16, packed anew every time.
void product_bf16(benchmark::State& state) {
  const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const FloatBuffer a = random_floats(m * k), b = random_floats(n * k), c(m * n);
  AlignedBuffer narrow(2 * n * k), left(2 * panel_values(m, k)), right(2 * panel_values(n, k));
  auto* weights = reinterpret_cast<uint16_t*>(narrow.data());
  to_bf16(b.data(), n * k, weights);
  const Panels tokens = panels_at(reinterpret_cast<uint16_t*>(left.data()), k);
  const Panels channels = panels_at(reinterpret_cast<uint16_t*>(right.data()), k);
  for (auto _ : state) {
    pack_panels(a.data(), {m, k, k, true}, TileForm::left, tokens);
    pack_panels(weights, {n, k, k, true}, TileForm::right, channels);
    tile_products(tokens, channels, {m, n, k}, c.data(), n, false);
    benchmark::ClobberMemory();
  }
  report_bf16(state,
              2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k));
}
BENCHMARK(product_bf16)->Apply(shapes)->Unit(benchmark::kMillisecond)->UseRealTime();

void moments_bf16(benchmark::State& state) {
  const int64_t rows = 2048, n = state.range(0);
  const FloatBuffer x = random_floats(rows * n), h(n * n);
  for (int64_t i = 0; i < n * n; ++i) h[i] = 0;
  Operand operand(Products::bf16);
  for (auto _ : state) {
    operand.set(x.data(), rows, n);
    add_moments(operand, rows, h.data());
    benchmark::ClobberMemory();
  }
  report_bf16(state,
              static_cast<double>(rows) * static_cast<double>(n) * static_cast<double>(n + 1));
}
BENCHMARK(moments_bf16)
    ->ArgName("channels")
    ->Arg(576)
    ->Arg(1536)
    ->Arg(4096)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace qwb

BENCHMARK_MAIN();
