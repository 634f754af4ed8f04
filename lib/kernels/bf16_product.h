// Matrix products of bf16 operands with f32 sums, for processors with matrix units (Intel AMX), where they
// run four to five times as fast as f32 (measured on a Xeon: 600-770 against 155 GFLOP/s a core). Calibration
// uses them: rounding activations to 8 significant bits errs by 2^-9, quantization by 10^-2 and more.
// Evaluation does not.
#pragma once

#include <compare>
#include <cstdint>

namespace qwb {

// True if this machine has the units, oneDNN uses them and QWB_ISA does not ask for an older instruction set.
bool has_bf16_units();

// C [m, n] = A [m, k] B^T (B [n, k]), or A B (B [k, n]) when `transposed` is false; plus C if `add`. A is
// stored [k, m] when a_transposed. bf16 bits, row-major with strides in elements. In the calling thread, with
// the same bits whatever the number of threads. Without the units: the same values by an f32 product.
struct Bf16Product {
  int64_t m, n, k;
  bool a_transposed = false;
  bool transposed = true;
  int64_t stride_a, stride_b, stride_c;
  bool add = false;
  // NOLINTNEXTLINE(modernize-use-nullptr): the 0 that is found is the compiler's
  auto operator<=>(const Bf16Product&) const = default;
};
void bf16_product_tile(const Bf16Product& shape, const uint16_t* a, const uint16_t* b, float* c);

// The same on all threads, over tiles of fixed shape.
void bf16_product(const Bf16Product& shape, const uint16_t* a, const uint16_t* b, float* c);

// f32 to bf16 on all threads.
void to_bf16(const float* values, int64_t count, uint16_t* out);

}  // namespace qwb
