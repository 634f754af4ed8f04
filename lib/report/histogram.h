// How the values of a module are distributed before and after quantization.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/registry.h"
#include "lib/codec/weight.h"

namespace qwb::report {

inline constexpr int64_t kHistogramBins = 101;

struct HistogramPair {
  double low = 0, high = 0;            // symmetric about zero; holds every value of both
  std::vector<int64_t> before, after;  // kHistogramBins counts each
  double before_count = 0, after_count = 0;
};

// The module's stored weight, of whatever format. Throws not_found, with a name that is alike if
// there is one; unsupported if the tensor holds no floats.
Weight module_weight(const OpenModel& model, const std::string& module);

// Throws `failed` for values that are not finite and for matrices of different sizes, naming the
// module.
HistogramPair histogram_pair(const Weight& before, const Weight& after, const std::string& module,
                             const Context& context = {});

}  // namespace qwb::report
