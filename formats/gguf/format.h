// GGUF as a format: one file that is a whole model (formats/gguf/gguf.md).
#pragma once

#include "formats/model_format.h"

namespace qwb {

ModelFormat gguf_format();

}  // namespace qwb
