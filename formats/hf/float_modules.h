// Modules on float grids as folders of Hugging Face layout store them: what compressed-tensors,
// the "fp8" dialect and ModelOpt share. Beside the weight a file may have scales for rounding
// activations (M.input_scale, ...): they belong to the module and are not used.
#pragma once

#include <string>
#include <vector>

#include "formats/hf/packed_format.h"

namespace qwb {

// A module's tensors, found and checked against each other.
struct FloatModule {
  std::string name;
  WeightLayout layout;
  PartViews parts;
  std::vector<std::string> tensors;

  PackedModule module() const { return {name, layout, tensors}; }
  // Views of the files. Throws `failed`, naming the module, for weights that would be NaN.
  LoadedWeight read(const Context& context) const;
};

// M.weight F8_E4M3 [out, in], its scales M + scale_suffix: one; one for each channel, [out] or
// [out, 1]; or by blocks, if block_rows and block_columns are not 0. Throws `failed`, naming the
// tensor.
FloatModule find_fp8(const Checkpoint& files, const std::string& module,
                     const std::string& scale_suffix, int64_t block_rows, int64_t block_columns);

// M + codes U8 [out, in / 2], M.weight_scale, and for NVFP4 M + global F32 of one element. Throws
// `failed`, naming the tensor.
struct Fp4Names {
  const char* codes;
  const char* global;  // null: MXFP4
  bool divides;        // the global scale does
};
FloatModule find_fp4(const Checkpoint& files, const std::string& module, const Fp4Names& names);

}  // namespace qwb
