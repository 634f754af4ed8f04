// Float grids in compressed-tensors: float-quantized (FP8), nvfp4-pack-quantized and
// mxfp4-pack-quantized. Page: formats/hf/compressed_tensors.md.
#pragma once

#include <string>

#include "formats/hf/compressed_reader.h"
#include "formats/hf/float_modules.h"

namespace qwb {

// Throws unsupported, naming the group, for a float grid that this build does not know.
void check_float_scheme(const CompressedScheme& scheme, const std::string& where);

FloatModule find_compressed_floats(const Checkpoint& files, const CompressedScheme& scheme,
                                   const std::string& module);

// Whether a weight lies on a float grid at all; how it fits; its tensors; its part of a
// config_groups entry: "format" and the settings of its weights.
bool on_float_grid(const WeightLayout& layout);
Fit fit_compressed_floats(const TargetModule& module);
std::vector<PartSpec> compressed_float_parts(const TargetModule& module);
PackedTensors compressed_float_tensors(const TargetModule& module, const Weight& weight);
std::string compressed_float_format(const WeightLayout& layout);
Json compressed_float_weights(const WeightLayout& layout);

}  // namespace qwb
