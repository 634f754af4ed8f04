// Quantizing anew what a target format cannot hold: the methods of lib/quantize for formats/convert.h.
#pragma once

#include "formats/convert.h"
#include "lib/quantize/method.h"

namespace qwb {

// Settings as resolve_settings() gives them. Scales get the target's type if the method lets it be chosen and
// leaves it open ("auto"). Throws usage for a method that needs calibration.
Requantizer make_requantizer(const Method& method, Settings settings, const PackedFormat& target);

}  // namespace qwb
