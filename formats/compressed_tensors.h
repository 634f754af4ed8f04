// Checkpoints of compressed-tensors (llm-compressor, vLLM): pack-quantized, int-quantized and naive
// int8. Byte-exact page: formats/compressed_tensors.md.
#pragma once

#include <memory>

#include "formats/packed_format.h"

namespace qwb {

// Codes packed into words (2 to 8 bits), or one signed byte each.
enum class CompressedLayout { packed, bytes };

std::unique_ptr<PackedFormat> make_compressed_tensors(CompressedLayout layout);

}  // namespace qwb
