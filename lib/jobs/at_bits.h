// A model at a number of bits, without asking for a method: quantized, or taken from the cache.
#pragma once

#include <string>

#include "lib/base/context.h"
#include "lib/jobs/choose.h"

namespace qwb {

// 4: nf4, 8: int8, the best of those that need no calibration (README, Results). 16: the
// checkpoint as it is, its weights narrowed to bf16 if they have 32 bits. 32: the checkpoint as it
// is: weights of 16 bits are computed with as f32 anyway. `model` as choose_model takes it. Throws
// usage for other numbers and for models that are quantized already, and what QuantizeJob throws.
ChosenArtifact model_at_bits(const std::string& model, int bits, const Context& context);

}  // namespace qwb
