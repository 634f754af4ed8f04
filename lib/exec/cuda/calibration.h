// The operations of calibration on an NVIDIA GPU. Nothing falls back to the processor.
#pragma once

#include <memory>

#include "lib/exec/calibration.h"
#include "lib/exec/cuda/executor.h"
#include "lib/exec/cuda/on_gpu.h"

namespace qwb {

std::unique_ptr<const CalibrationOps> cuda_calibration(const CudaExecutor& executor);

// Rows that are worked on together: as many as this many values, of so many columns each.
int64_t cuda_rows_together(int64_t columns);
cuda::GridShape grid_shape(const GridSettings& settings);
// Throws failed, naming the module, where a scale did not fit its type.
void check_scales(const OnGpu<uint32_t>& overflow, const GridSettings& settings,
                  const std::string& module);

// c = factor a b^T (down: factor a b), or c += that.
struct CudaProduct {
  bool down = false, add = false, upper = false;
  float factor = 1;
};
void cuda_multiply(const CudaExecutor& executor, In a, In b, Out c, const CudaProduct& how);
// sums[r] += x H x^T of every row, in f64.
void cuda_forms(const CudaExecutor& executor, In x, In h, double* sums);

bool cuda_factorize(const CudaExecutor& executor, In h, const Damping& damping,
                    const UpperFactor& factor);
// x [rows, n] becomes x A^-1.
void cuda_solve(const CudaExecutor& executor, const UpperFactor& factor, Out x);
void cuda_gptq_rows(const CudaExecutor& executor, const GptqTask& task,
                    std::span<const float> weight, const GptqDone& done);
void cuda_clip_rows(const CudaExecutor& executor, const ClipTask& task,
                    std::span<const float> weight, const ClipDone& done);
std::vector<double> cuda_rounded_errors(const CudaExecutor& executor, const ScaleTrial& trial);
std::vector<double> cuda_clipped_errors(const CudaExecutor& executor, const ScaleTrial& trial);

}  // namespace qwb
