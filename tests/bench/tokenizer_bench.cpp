// Encoding and decoding speed of the demo tokenizers on the demo text; bytes per second are of
// text. QWB_BENCH_TOKENIZER names the folder of another one. Hugging Face tokenizers on the same
// text: tests/golden/compare_tokenizer.py.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>

#include "lib/base/file.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {
namespace {

const Path kSource = QWB_SOURCE_DIR;

std::string demo_text() {
  return read_text(kSource / "recipes/demo/text/eval.txt");
}

Path folder(int64_t index) {
  if (index == 2)
    return std::getenv("QWB_BENCH_TOKENIZER") != nullptr ? std::getenv("QWB_BENCH_TOKENIZER") : "";
  return kSource / "recipes/demo" / (index == 0 ? "llama" : "gpt2");
}

void encode(benchmark::State& state) {
  const Path at = folder(state.range(0));
  if (at.empty()) return state.SkipWithError("QWB_BENCH_TOKENIZER is not set");
  const Tokenizer tokenizer = Tokenizer::load(at);
  const std::string text = demo_text();
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.encode(text, false));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
  state.SetLabel(at.filename().string());
}
BENCHMARK(encode)->DenseRange(0, 2);

void decode(benchmark::State& state) {
  const Path at = folder(state.range(0));
  if (at.empty()) return state.SkipWithError("QWB_BENCH_TOKENIZER is not set");
  const Tokenizer tokenizer = Tokenizer::load(at);
  const std::string text = demo_text();
  const auto ids = tokenizer.encode(text, false);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.decode(ids, true));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
BENCHMARK(decode)->DenseRange(0, 2);

// A megabyte without a place to cut, through the heap of merges.
void encode_one_word(benchmark::State& state) {
  const Tokenizer tokenizer = Tokenizer::load(folder(state.range(0)));
  const std::string text(1 << 20, 'a');
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.encode(text, false));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
BENCHMARK(encode_one_word)->DenseRange(0, 1);

}  // namespace
}  // namespace qwb

BENCHMARK_MAIN();
