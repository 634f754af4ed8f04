// What methods share whose parameters choose a grid of integers (integer_grid.h) or of floats
// (float_grid.h): bits, group_size, symmetric, scale_dtype and grid.
#pragma once

#include <string>
#include <utility>

#include "lib/base/json.h"
#include "lib/quantize/encode/float_grid.h"
#include "lib/quantize/encode/integer_grid.h"
#include "lib/quantize/method.h"

namespace qwb {

class GridMethod : public Method {
 public:
  // The default of scale_dtype.
  explicit GridMethod(std::string scale_type) : scale_type_(std::move(scale_type)) {}
  Json completed(const Json& given) const override { return with_grid_defaults(given); }
  void check(const Settings& settings) const override {
    check_grid_settings(settings, name());
    check_float_grid(settings, scale_type_, name());
  }
  double bits(const Settings& settings) const override {
    return static_cast<double>(json_int(settings, "bits", "method " + name()));
  }
  WeightLayout layout(const ModuleInfo& module, const Settings& settings) const override {
    return is_float_grid(settings) ? float_grid_layout(module, settings)
                                   : grid_layout(module, settings);
  }

 protected:
  const std::string& scale_type() const { return scale_type_; }

 private:
  std::string scale_type_;
};

}  // namespace qwb
