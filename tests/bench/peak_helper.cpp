// Compiled with -march=native: see CMakeLists.txt.
#include "tests/bench/peak_helper.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace qwb::bench {
namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
// Two units with a latency of four or five cycles need ten independent chains.
constexpr int kChains = 12;
constexpr int64_t kSteps = 4'000'000;

float run_chains() {
  Lanes sums[kChains];
  for (int c = 0; c < kChains; ++c)
    sums[c] = Lanes{} + static_cast<float>(c);  // different, or one chain would do
  Lanes factor = Lanes{} + 0.999f, addend = Lanes{} + 0.001f;
  for (int64_t step = 0; step < kSteps; ++step) {
    for (Lanes& sum : sums) sum = sum * factor + addend;
  }
  float total = 0;
  for (const Lanes& sum : sums) total += sum[0];
  return total;
}

}  // namespace

double peak_gflops() {
  double best = 0;
  for (int run = 0; run < 5; ++run) {
    float total = 0;
    const auto start = std::chrono::steady_clock::now();
#pragma omp parallel reduction(+ : total)
    total += run_chains();
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    volatile float sink = total;
    static_cast<void>(sink);
    best = std::max(best, 2.0 * kLanes * kChains * kSteps * omp_get_max_threads() / seconds * 1e-9);
  }
  return best;
}

}  // namespace qwb::bench
