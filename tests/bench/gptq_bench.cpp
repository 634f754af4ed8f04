// The parts of GPTQ and the 4-bit methods on one module, in GFLOP/s or GB/s of f32 weights. usage:
// see Google Benchmark.
#include <benchmark/benchmark.h>

#include <cmath>

#include "lib/base/rng.h"
#include "lib/quantize/method.h"
#include "lib/quantize/solve/gptq_moments.h"
#include "tests/exec/executor_helper.h"

namespace qwb {
namespace {

Tensor random_weight(int64_t out, int64_t in) {
  Rng rng(1);
  Tensor weight(DType::f32, {out, in});
  for (int64_t k = 0; k < out * in; ++k)
    weight.data<float>()[k] = static_cast<float>(rng.uniform() + rng.uniform() - 1);
  return weight;
}

// Decaying correlation between neighbours and channels of different size: positive definite.
FloatBuffer random_hessian(int64_t n) {
  Rng rng(2);
  std::vector<float> size(static_cast<size_t>(n));
  for (float& value : size) value = static_cast<float>(std::exp(2 * rng.uniform() - 1));
  FloatBuffer hessian(n * n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const double near = std::pow(0.99, static_cast<double>(std::abs(i - j)));
      hessian[i * n + j] = static_cast<float>(near) * size[i] * size[j];
    }
  }
  return hessian;
}

ModuleTask task_of(const Tensor& weight, const Moments* moments) {
  return {{"module", weight.shape()[0], weight.shape()[1], Orientation::out_in, DType::f32},
          weight.view(),
          moments};
}

void factorize(benchmark::State& state) {
  const int64_t n = state.range(0);
  const FloatBuffer hessian = random_hessian(n);
  for (auto _ : state) {
    PreparedMoments moments =
        prepare_moments(fast_executor(), In(hessian.data(), n, n), {}, "module");
    benchmark::DoNotOptimize(moments.damping);
  }
  const double cube = static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
  state.counters["GFLOP/s"] = benchmark::Counter(
      2.0 / 3 * cube * 1e-9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}
BENCHMARK(factorize)->Arg(576)->Arg(1536)->Arg(4096)->Unit(benchmark::kMillisecond)->UseRealTime();

void run(benchmark::State& state, const std::string& name, const Json& settings) {
  const Tensor weight = random_weight(state.range(0), state.range(1));
  const Method& method = find_method(name);
  const FloatBuffer hessian =
      method.needs_calibration() ? random_hessian(state.range(1)) : FloatBuffer();
  Moments moments;
  moments.executor = &fast_executor();
  moments.hessian = In(hessian.data(), state.range(1), state.range(1));
  moments.tokens = 1;
  const ModuleTask task = task_of(weight, &moments);
  const Settings resolved = resolve_settings(method, settings);
  for (auto _ : state) benchmark::DoNotOptimize(method.quantize(task, resolved).weight_error);
  state.SetBytesProcessed(state.iterations() * weight.count() * 4);
}

void gptq(benchmark::State& state) {
  run(state, "gptq", Json::object());
}
void gptq_without_search(benchmark::State& state) {
  run(state, "gptq", {{"scale_search", false}});
}
BENCHMARK(gptq)
    ->Args({256, 640})
    ->Args({1536, 576})
    ->Args({576, 1536})
    ->Args({4096, 4096})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(gptq_without_search)->Args({1536, 576})->Unit(benchmark::kMillisecond)->UseRealTime();

void plain(benchmark::State& state, const std::string& name) {
  run(state, name, Json::object());
}
BENCHMARK_CAPTURE(plain, nf4, "nf4")
    ->Args({4096, 4096})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(plain, fp4, "fp4")
    ->Args({4096, 4096})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(plain, int8, "int8")
    ->Args({4096, 4096})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(plain, rtn, "rtn")
    ->Args({4096, 4096})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace qwb

BENCHMARK_MAIN();
