// The qwb artifact as a target of conversions: every codec is held as it is (formats/qwb.md).
#pragma once

#include <memory>

#include "formats/packed_format.h"

namespace qwb {

std::unique_ptr<PackedFormat> make_qwb_format();

}  // namespace qwb
