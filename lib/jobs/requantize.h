// Quantizing anew what a target format cannot hold: the methods of lib/quantize for
// formats/convert.h.
#pragma once

#include "formats/convert.h"
#include "lib/quantize/method.h"
#include "lib/quantize/plan.h"

namespace qwb {

// Settings as resolve_settings() gives them. Scales get the target's type if the method lets it be
// chosen and leaves it open ("auto"). Throws usage for a method that needs calibration.
Requantizer make_requantizer(const Method& method, Settings settings, const PackedFormat& target);

// Throws unsupported, naming modules, if `target` cannot hold what the plan will make: to be known
// before the work. Scales that F16 does not hold show only afterwards.
void check_plan_fits(const Plan& plan, const PackedFormat& target);

}  // namespace qwb
