#include <cmath>

#include "lib/exec/executor.h"

namespace qwb {

void Executor::soft_cap(Out x, float cap) const {
  std::vector<float> values = download(x);
  for (float& value : values)
    value = static_cast<float>(cap * std::tanh(static_cast<double>(value) / cap));
  copy(In(values.data(), x.rows, x.columns), x);
}

}  // namespace qwb
