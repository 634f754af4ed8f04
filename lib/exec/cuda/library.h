// libqwb-cuda.so, opened when a GPU is first asked for and never closed.
#pragma once

#include <string>

#include "lib/base/error.h"
#include "lib/exec/cuda/interface.h"

namespace qwb {

// Its functions, or why there are none.
struct CudaLibrary {
  const cuda::Functions* functions = nullptr;
  std::string path;
  std::string problem, advice;  // empty with functions
};

// That of $QWB_CUDA_LIBRARY, else beside the program, else where `cmake --install` puts it. Looked
// for once.
const CudaLibrary& cuda_library();
// That file, for tests.
CudaLibrary open_cuda_library(const std::string& path);

// Its functions. Throws unsupported.
const cuda::Functions& cuda_functions();

// The error that a code of the CUDA runtime stands for: what it means, and what to do. `during`
// names what was done; `found` is what is known of the machine and helps.
struct CudaFound {
  std::string driver, runtime;  // versions: "12.4"
  std::string card;             // "NVIDIA H200 (compute capability 9.0)"
  std::string built_for;
  int64_t asked = 0, free = 0, total = 0;  // bytes
};
Error cuda_error(int code, const std::string& text, const std::string& during,
                 const CudaFound& found);

std::string cuda_version_text(int version);  // 12040: "12.4"

struct Gpus;
// As list_gpus(), by that library.
Gpus list_gpus_by(const CudaLibrary& library);

}  // namespace qwb
