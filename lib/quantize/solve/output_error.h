// How much a module's output on the calibration inputs changes by quantizing it, for any method.
#pragma once

#include "lib/quantize/method.h"

namespace qwb {

// tr((W - Q) H (W - Q)^T) / tr(W H W^T). task.moments must be there. Throws failed, naming the
// module, if it is not finite.
double output_error(const ModuleTask& task, const QuantizedTensor& quantized);

}  // namespace qwb
