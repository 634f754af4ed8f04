#include "lib/model/weight_bytes.h"

#include "lib/base/mapped_ranges.h"

namespace qwb {

void WeightCount::add(const Weight& weight) {
  bool first = false;
  for (const auto& [name, part] : weight.parts()) {
    if (part.empty() || !seen_.insert(part.bytes.data()).second) continue;
    first = true;
    (in_mapped_file(part.bytes.data()) ? bytes_.mapped : bytes_.copied) +=
        static_cast<int64_t>(part.bytes.size());
  }
  if (first) bytes_.parameters += weight.out * weight.in;
}

}  // namespace qwb
