// GPTQ checkpoints as AutoGPTQ and GPTQModel write them (v1 and v2). Byte-exact page:
// formats/hf/gptq.md.
#pragma once

#include "formats/model_format.h"

namespace qwb {

// How zero points are stored: v1 one less than they are, v2 as they are. automatic writes v1 where
// every module is symmetric (all loaders take that), else v2.
enum class GptqVersion { automatic, v1, v2 };

ModelFormat gptq_format(GptqVersion version);

}  // namespace qwb
