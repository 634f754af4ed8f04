// AWQ checkpoints in the GEMM layout, as AutoAWQ and GPTQModel write them. Byte-exact page:
// formats/hf/awq_gemm.md.
#pragma once

#include "formats/model_format.h"

namespace qwb {

ModelFormat awq_format();

}  // namespace qwb
