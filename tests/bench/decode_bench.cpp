// Products of one token with stored weights, as decoding makes them, on one thread: bytes and
// weights a second of every codec. "near": a matrix that stays in a near cache, which shows the
// kernel; "far": several hundred megabytes, read in turn, which shows the memory.
#include <benchmark/benchmark.h>

#include <map>
#include <string>
#include <vector>

#include "lib/codec/dense.h"
#include "lib/codec/float_blocks.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/codec/int8_rows.h"
#include "lib/codec/integer_grid.h"
#include "lib/exec/executor.h"
#include "tests/exec/weights_helper.h"

namespace qwb {
namespace {

using Layouts = std::map<std::string, WeightLayout>;

Layouts layouts_of(int64_t out, int64_t in) {
  Layouts all;
  const WeightShape shape{out, in};
  all["f32"] = dense_layout(shape, DType::f32);
  all["f16"] = dense_layout(shape, DType::f16);
  all["bf16"] = dense_layout(shape, DType::bf16);
  all["int8"] = int8_rows_layout(out, in);
  for (const int bits : {2, 3, 4, 5, 6, 7, 8}) {
    const std::string name = "grid" + std::to_string(bits);
    all[name] = integer_grid_layout(out, in, {.bits = bits});
    all[name + "-asym"] = integer_grid_layout(out, in, {.bits = bits, .symmetric = false});
  }
  all["grid4-g32"] = integer_grid_layout(out, in, {.bits = 4, .group_size = 32});
  all["nf4"] = float_blocks_layout(shape, {.double_quantization = false});
  all["nf4-double"] = float_blocks_layout(shape, {});
  for (const GgmlTypeInfo& type : ggml_types()) {
    if (type.block > 1 && in % type.block == 0)
      all[std::string(type.name)] = ggml_blocks_layout(out, in, type.type);
  }
  return all;
}

void decode(benchmark::State& state, const std::string& name, int64_t out, int64_t in,
            int64_t copies) {
  const auto executor = make_executor(ExecutorKind::fast, Threads(1));
  std::vector<QuantizedTensor> tensors;
  std::vector<Prepared> weights;
  const WeightLayout layout = layouts_of(out, in).at(name);
  for (int64_t i = 0; i < copies; ++i) tensors.push_back(random_weight(layout));
  for (const QuantizedTensor& tensor : tensors) weights.push_back(executor->prepare(tensor.view()));
  const Matrix x = executor->allocate(1, in), y = executor->allocate(1, out);
  executor->fill(x, 0.5f);
  size_t next = 0;
  for (auto _ : state) {
    executor->linear(In(x), {weights[next]}, y);
    next = (next + 1) % weights.size();
    benchmark::ClobberMemory();
  }
  const auto rate = [&](int64_t of) {
    return benchmark::Counter(
        static_cast<double>(of) * 1e-9 * static_cast<double>(state.iterations()),
        benchmark::Counter::kIsRate);
  };
  state.counters["GB/s"] = rate(layout.bytes());
  state.counters["Gweights/s"] = rate(out * in);
}

void register_all() {
  for (const auto& [name, layout] : layouts_of(256, 512)) {
    benchmark::RegisterBenchmark(("near/" + name).c_str(), decode, name, 512, 1536, 1);
    benchmark::RegisterBenchmark(("far/" + name).c_str(), decode, name, 4096, 4096, 12);
  }
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  qwb::register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
