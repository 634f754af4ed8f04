#include "lib/tensor/small_numbers.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "lib/base/error.h"

namespace qwb {
namespace {

std::string percent(double share) {
  const double rounded = std::min(100.0, std::round(share * 1000) / 10);
  std::string text = std::to_string(rounded);
  text.erase(text.find('.') + 2);
  return text + " %";
}

}  // namespace

double tolerated_code_loss(double bits) {
  return std::min(0.5, 8 * std::pow(4.0, -bits));
}

bool is_coarse_scale(float stored, DType type, double bits) {
  // Half the distance of neighbours among the subnormal numbers.
  const double off = type == DType::f16 ? 0x1p-25 : type == DType::bf16 ? 0x1p-134 : 0x1p-150;
  return std::abs(static_cast<double>(stored)) * std::pow(2.0, -bits) < off;
}

void require_floats_kept(double lost, DType type, const std::string& module,
                         const std::string& advice) {
  if (!(lost > kToleratedFloatLoss)) return;
  throw Error(ErrorKind::failed,
              "its values are too small for " + std::string(dtype_name(type)) +
                  ": they underflow, and " + percent(lost) +
                  " of them (by their squares) would be lost",
              module, advice);
}

void require_codes_kept(double lost, double bits, const std::string& type,
                        const std::string& module, const std::string& advice) {
  if (!(lost > tolerated_code_loss(bits))) return;
  throw Error(ErrorKind::failed,
              "its values are too small for " + type + ": the scales underflow, and " +
                  percent(lost) + " of the weight (by its squares) would be lost",
              module, advice);
}

}  // namespace qwb
