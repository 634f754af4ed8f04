// One linear layer on stored weights, dequantized on the way: a token at a time (decode: bound by
// the bytes of the weights, "bytes_per_second" counts those as stored) and 512 at a time (prefill:
// bound by the product, "GFLOP/s"). int8 also with LLM.int8's products of 8-bit activations,
// without outliers and with 8 of 2048 columns that are.
#include <benchmark/benchmark.h>

#include <map>
#include <string>

#include "lib/base/rng.h"
#include "lib/exec/cpu/int8_product.h"
#include "lib/exec/executor.h"
#include "lib/quantize/method.h"
#include "tests/exec/executor_helper.h"

namespace qwb {
namespace {

constexpr int64_t kOut = 2048, kIn = 2048;

Tensor random_weight() {
  Rng rng(1);
  Tensor weight(DType::f32, {kOut, kIn});
  for (int64_t k = 0; k < kOut * kIn; ++k)
    weight.data<float>()[k] = static_cast<float>(rng.uniform() + rng.uniform() - 1);
  return weight;
}

QuantizedTensor quantized(const std::string& method, const Json& settings) {
  const Tensor weight = random_weight();
  ModuleTask task;
  task.info.name = "module";
  task.info.out = kOut;
  task.info.in = kIn;
  task.weight = weight.view();
  return find_method(method).quantize(task, resolve_settings(find_method(method), settings)).tensor;
}

void linear(benchmark::State& state, const std::string& method, const Json& settings,
            const Executor& executor = fast_executor(), int64_t outliers = 0) {
  const int64_t tokens = state.range(0);
  const QuantizedTensor tensor = quantized(method, settings);
  const Weight weight = tensor.view();
  const Prepared prepared = executor.prepare(weight);
  Rng rng(2);
  FloatBuffer x(tokens * kIn), y(tokens * kOut);
  for (int64_t i = 0; i < tokens * kIn; ++i) x[i] = static_cast<float>(rng.uniform() - 0.5);
  for (int64_t c = 0; c < outliers; ++c) x[(tokens - 1) * kIn + 250 * c] = 10;
  for (auto _ : state) {
    executor.linear(In(x.data(), tokens, kIn), {prepared}, Out(y.data(), tokens, kOut));
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * weight.bytes());
  state.counters["GFLOP/s"] = benchmark::Counter(
      2e-9 * static_cast<double>(tokens * kOut * kIn) * static_cast<double>(state.iterations()),
      benchmark::Counter::kIsRate);
}

void add_benchmarks() {
  const std::map<std::string, std::pair<std::string, Json>> codecs = {
      {"f32", {"none", {{"dtype", "f32"}}}},
      {"bf16", {"none", {{"dtype", "bf16"}}}},
      {"int8", {"int8", Json::object()}},
      {"nf4", {"nf4", Json::object()}},
      {"grid_4_bits_g128", {"rtn", {{"bits", 4}, {"group_size", 128}}}},
      {"grid_3_bits_g64", {"rtn", {{"bits", 3}, {"group_size", 64}}}},
      {"grid_8_bits_g128", {"rtn", {{"bits", 8}, {"group_size", 128}}}}};
  for (const auto& [name, codec] : codecs) {
    benchmark::RegisterBenchmark(
        ("linear/" + name).c_str(),
        [codec = codec](benchmark::State& state) { linear(state, codec.first, codec.second); })
        ->ArgName("tokens")
        ->Arg(1)
        ->Arg(512)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  }
  static const auto int8 = make_int8_executor(kInt8Threshold, Threads());
  for (const int64_t outliers : {0, 8}) {
    benchmark::RegisterBenchmark(
        ("linear/int8_activations_outliers_" + std::to_string(outliers)).c_str(),
        [outliers](benchmark::State& state) {
          linear(state, "int8", Json::object(), *int8, outliers);
        })
        ->ArgName("tokens")
        ->Arg(1)
        ->Arg(512)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  }
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  qwb::add_benchmarks();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
