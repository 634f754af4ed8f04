// Quantizing anew what a target format cannot hold: the methods of lib/quantize for
// formats/convert.h.
#pragma once

#include <optional>

#include "formats/convert.h"
#include "lib/quantize/method.h"
#include "lib/quantize/plan/plan.h"

namespace qwb {

// Throws usage for a method that needs calibration: a conversion has none.
void require_no_calibration(const Method& method);

// Settings as resolve_settings() gives them. `scales`: the target's only type of scales, if there
// is one: they get it if the method lets it be chosen and leaves it open ("auto").
Requantizer make_requantizer(const Method& method, Settings settings, std::optional<DType> scales);

// Throws unsupported, naming a module, if the format cannot hold exactly what the plan will make of
// the model, as far as layouts tell: to be known before the work. Scales that f16 does not hold and
// minimums of asymmetric grids show only afterwards.
void check_plan_fits(const Plan& plan, const OpenModel& model, const ModelFormat& format);

}  // namespace qwb
