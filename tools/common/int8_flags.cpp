#include "tools/common/int8_flags.h"

#include <cmath>

#include "lib/base/error.h"
#include "lib/exec/cpu/int8_product.h"
#include "tools/common/command_line.h"
#include "tools/common/number_checks.h"

namespace qwb {

void add_int8_flags(CLI::App& app, Int8Flags& flags) {
  app.add_option("--int8", flags.forward,
                 "Forward pass of int8 artifacts: dequantize (weights to f32, activations exact; "
                 "the default) or "
                 "decompose (LLM.int8: activations in 8 bits, outlier columns in f32)")
      ->check(one_of({"dequantize", "decompose"}))
      ->type_name("HOW");
  app.add_option(
         "--int8-threshold", flags.threshold,
         "LLM.int8: columns with an activation of at least this magnitude are outliers; 0: none "
         "(default: 6; asks for decompose)")
      ->check(at_least(0))
      ->type_name("T");
}

Int8Forward chosen_int8_forward(const Int8Flags& flags) {
  if (flags.threshold && flags.forward == "dequantize")
    throw Error(ErrorKind::usage, "--int8-threshold has no meaning with --int8 dequantize");
  if (flags.threshold && !std::isfinite(*flags.threshold))
    throw Error(ErrorKind::usage, "--int8-threshold must be 0 (off) or a positive number");
  if (!flags.threshold && flags.forward != "decompose") return {};
  return {flags.threshold.value_or(kInt8Threshold)};
}

}  // namespace qwb
