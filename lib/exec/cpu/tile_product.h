// Matrix products of bf16 operands with f32 sums, by the units that a processor has for them: Intel
// AMX, else AVX512_BF16. Calibration uses them: rounding activations to 8 significant bits errs by
// 2^-9, quantization by 10^-2 and more. Evaluation does not.
#pragma once

#include <string>
#include <vector>

#include "lib/base/threads.h"
#include "lib/exec/cpu/tile_panels.h"

namespace qwb {

// "amx", "avx512_bf16", or "" where the processor or the system has neither, or QWB_ISA asks for an
// older instruction set than the machine's best.
std::string bf16_units();

struct ProductShape {
  int64_t m, n, k;
};

// C [m, n] = A B, or C + A B if `add`, for A [m, k] in panels of the left form and B [k, n] of the
// right one; C is f32, row-major. Panels may go on beyond m, n and k only where both hold finite
// values and one holds zeros. In the calling thread, with the same bits whatever the number of
// threads; without units by plain code. upper: what is below the diagonal may be left as it is.
void tile_product(const Panels& a, const Panels& b, const ProductShape& shape, float* c,
                  int64_t stride_c, bool add, bool upper = false);

// The same on so many threads, over parts of fixed shape.
void tile_products(const Panels& a, const Panels& b, const ProductShape& shape, float* c,
                   int64_t stride_c, bool add, Threads threads = {});

// For tests and benchmarks: the units that this machine has, "plain" among them, and the choice of
// one ("" is back to the best). Not while products are computed.
std::vector<std::string> available_bf16_units();
void force_bf16_units(const std::string& name);

}  // namespace qwb
