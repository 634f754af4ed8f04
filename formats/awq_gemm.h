// AWQ checkpoints in the GEMM layout, as AutoAWQ and GPTQModel write them. Byte-exact page:
// formats/awq_gemm.md.
#pragma once

#include <memory>

#include "formats/packed_format.h"

namespace qwb {

std::unique_ptr<PackedFormat> make_awq_gemm();

}  // namespace qwb
