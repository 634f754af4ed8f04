// The artifact as a format: every codec is held as it is (formats/qwb/qwb.md).
#pragma once

#include <memory>

#include "formats/hf/packed_format.h"
#include "formats/model_format.h"

namespace qwb {

std::shared_ptr<const PackedWriter> qwb_packing();

}  // namespace qwb
