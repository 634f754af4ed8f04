// Checkpoints of compressed-tensors (llm-compressor, vLLM): pack-quantized, int-quantized and naive
// int8. Byte-exact page: formats/hf/compressed_tensors.md.
#pragma once

#include "formats/model_format.h"

namespace qwb {

// Codes packed into words (2 to 8 bits), or one signed byte each.
enum class CompressedLayout { packed, bytes };

ModelFormat compressed_tensors_format(CompressedLayout layout);

}  // namespace qwb
