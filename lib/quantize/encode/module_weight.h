// What the methods share: a module's weight as f32, its error after quantizing, the empty parts of
// its result.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "lib/exec/cpu/rounding.h"
#include "lib/quantize/method.h"

namespace qwb {

// The weight as f32 [out, in] row-major, transposed if the checkpoint stores [in, out], with the
// task's scales folded in. Throws failed, naming the module, on NaN or Inf or on a shape other than
// info's.
FloatBuffer read_out_in(const ModuleTask& task);
// The same by pieces, in parallel: calls work(first, last, rows) with rows [first, last) of it, of
// at most 64, which live during the call.
void for_rows_out_in(
    const ModuleTask& task,
    const std::function<void(int64_t first, int64_t last, const float* rows)>& work);
// Elements [begin, begin + count) of the checkpoint's tensor as f32; read_finite() throws failed,
// naming the module, on NaN or Inf.
void read_values(const ModuleTask& task, int64_t begin, int64_t count, float* values);
void read_finite(const ModuleTask& task, int64_t begin, int64_t count, float* values);
// The moments' H, in the memory of their executor. Throws failed, naming the module, if no
// calibration token reached it.
In required_hessian(const ModuleTask& task);
// Throws failed, naming the module, if the tensor's shape or type is not what info says.
void check_task(const ModuleTask& task);

// f32 to f32, f16 or bf16 (round to nearest, ties to even). Throws failed, naming `where`, if a
// value becomes infinite.
void narrow(const float* values, int64_t count, DType type, std::byte* out,
            const std::string& where);
Tensor narrow(const std::vector<float>& values, DType type, const Shape& shape,
              const std::string& where);

}  // namespace qwb
