// Checkpoints of transformers + bitsandbytes: LLM.int8 rows, NF4 and FP4 blocks, nested statistics.
// Byte-exact page: formats/bitsandbytes.md.
#pragma once

#include <memory>

#include "formats/packed_format.h"

namespace qwb {

std::unique_ptr<PackedFormat> make_bitsandbytes();

}  // namespace qwb
