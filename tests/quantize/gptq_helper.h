// Calibration inputs and a slow, plain GPTQ in f64 for the tests of the solver.
#pragma once

#include <vector>

#include "lib/exec/cpu/gptq_solver.h"
#include "lib/quantize/encode/integer_grid.h"
#include "lib/quantize/method.h"
#include "lib/quantize/solve/gptq_moments.h"
#include "tests/exec/executor_helper.h"

namespace qwb {

// Inputs [tokens, columns] that look like activations: correlated, with channels of very different
// size.
std::vector<float> correlated_inputs(int64_t tokens, int64_t columns, uint64_t seed);
// Sum of x x^T over the tokens, in f64, as f32 [columns, columns].
std::vector<float> moments_of(const std::vector<float>& inputs, int64_t columns);
// Normally distributed, from the project's generator.
std::vector<float> normal_values(int64_t count, uint64_t seed);

// Square matrices as operands.
In square(const std::vector<float>& values);
// Gives moments their H, which they look at, and an executor in whose memory it lies.
void set_hessian(Moments& moments, const std::vector<float>& hessian,
                 const Executor& executor = fast_executor());
PreparedMoments prepared(const std::vector<float>& hessian, const GptqSettings& settings);
// What is asked of the solver.
GptqTask solver_task(const PreparedMoments& moments, const GptqSettings& settings);

// H with that share of its mean diagonal added, [n, n] in f64; a dead column's entry is the mean.
std::vector<double> damped(const std::vector<float>& hessian, int64_t n, double damping);

struct ReferenceResult {
  std::vector<uint8_t> codes;  // [out, in]
  std::vector<float> values;   // [out, in]
  double output_error = 0;     // tr(D H D^T) / tr(W H W^T), f64
};

// The textbook in f64, without blocks or factorizations: the inverse of H + damping by
// Gauss-Jordan, one column after the other, the rest of the row updated with the inverse's row,
// which is then eliminated from the inverse. Grids as integer_grid.h says (no scale search),
// computed in f32 from the compensated weights.
ReferenceResult reference_gptq(const std::vector<float>& weight, int64_t out, int64_t in,
                               const std::vector<float>& hessian, const GptqSettings& settings);
// The same error for any values.
double output_error(const std::vector<float>& weight, const std::vector<float>& values, int64_t in,
                    const std::vector<float>& hessian);

}  // namespace qwb
