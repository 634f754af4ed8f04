// The artifact as a format: every codec is held as it is (formats/qwb.md).
#pragma once

#include <memory>

#include "formats/model_format.h"
#include "formats/packed_format.h"

namespace qwb {

ModelFormat qwb_format();
std::shared_ptr<const PackedWriter> qwb_packing();

}  // namespace qwb
