// Method "int8": LLM.int8 rows (Dettmers et al. 2022, arXiv 2208.07339): absmax per output channel,
// codes = round(w * ((1 / absmax) * 127)) in f32, ties to even. Codes and absmax equal those of
// bitsandbytes' int8_vectorwise_quant on the weight in its stored type. (Its Int8Params layer casts
// the weight to f16 first: equal where f16 holds the values exactly.)
#include <cmath>

#include "lib/codec/int8_rows.h"
#include "lib/exec/cpu/rounding.h"
#include "lib/exec/cpu/simd.h"
#include "lib/quantize/encode/module_weight.h"
#include "lib/quantize/method.h"

namespace qwb {
namespace {

// Codes of one row; false if the factor is not finite, as for a row of zeros.
bool round_row(const float* row, int64_t count, float absmax, int8_t* codes) {
  const float factor = (1.0f / absmax) * 127.0f;  // two roundings, as torch computes 127 / tensor
  if (!std::isfinite(factor)) return false;
  round_to_int8(row, count, factor, codes);
  return true;
}

// Rows whose largest weight is below 2^-121 or so: the factor overflows f32.
void round_tiny_row(const float* row, int64_t count, float absmax, int8_t* codes) {
  const double factor = absmax > 0 ? 127.0 / absmax : 0.0;
  for (int64_t i = 0; i < count; ++i)
    codes[i] = static_cast<int8_t>(std::nearbyint(row[i] * factor));
}

class Int8 : public Method {
 public:
  std::string name() const override { return "int8"; }
  std::string summary() const override {
    return "8-bit integers with one scale per output channel (LLM.int8)";
  }
  int version() const override { return 1; }
  std::vector<Parameter> parameters() const override { return {}; }
  double bits(const Settings& /*settings*/) const override { return 8; }
  WeightLayout layout(const ModuleInfo& module, const Settings& /*settings*/) const override {
    return int8_rows_layout(module.out, module.in);
  }
  ModuleResult quantize(const ModuleTask& task, const Settings& settings) const override;
};

ModuleResult Int8::quantize(const ModuleTask& task, const Settings& settings) const {
  const int64_t out = task.info.out, in = task.info.in;
  ModuleResult result;
  result.tensor = QuantizedTensor(layout(task.info, settings));
  auto* codes = result.tensor.parts.at("codes").data<int8_t>();
  auto* absmax = result.tensor.parts.at("absmax").data<float>();
  std::vector<ErrorSum> errors(static_cast<size_t>(out));
  for_rows_out_in(task, [&](int64_t first, int64_t last, const float* rows) {
    for (int64_t o = first; o < last; ++o) {
      const float* row = rows + (o - first) * in;
      int8_t* row_codes = codes + o * in;
      absmax[o] = simd::max_magnitude(row, in);
      if (!round_row(row, in, absmax[o], row_codes)) round_tiny_row(row, in, absmax[o], row_codes);
      errors[o].add(int8_errors(row, row_codes, in, absmax[o] * (1.0f / 127.0f)));
    }
  });
  result.weight_error = relative_error(errors);
  return result;
}

}  // namespace

std::unique_ptr<Method> make_int8() {
  return std::make_unique<Int8>();
}

}  // namespace qwb
