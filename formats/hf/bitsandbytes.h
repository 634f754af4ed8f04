// Checkpoints of transformers + bitsandbytes: LLM.int8 rows, NF4 and FP4 blocks, nested statistics.
// Byte-exact page: formats/hf/bitsandbytes.md.
#pragma once

#include "formats/model_format.h"

namespace qwb {

ModelFormat bitsandbytes_format();

}  // namespace qwb
