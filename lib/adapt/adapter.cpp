#include "lib/adapt/adapter.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "lib/base/hash.h"

namespace qwb {

int64_t Adapter::values() const {
  int64_t total = 0;
  for (const AdapterModule& module : modules) total += module.rank * (module.in + module.out);
  return total;
}

float adapter_scale(double alpha, int64_t rank, bool rslora) {
  const auto r = static_cast<double>(rank);
  return static_cast<float>(alpha / (rslora ? std::sqrt(r) : r));
}

std::string content_hash(const Adapter& adapter) {
  Hasher hasher;
  hasher.field("adapter 1");
  std::vector<const AdapterModule*> order;
  for (const AdapterModule& module : adapter.modules) order.push_back(&module);
  std::ranges::sort(order, {}, [](const AdapterModule* m) { return m->module; });
  const auto floats = [](const std::vector<float>& values) {
    return std::as_bytes(std::span(values));
  };
  for (const AdapterModule* m : order) {
    hasher.field(m->module).field(shape_text({m->rank, m->in, m->out}));
    hasher.bytes(std::as_bytes(std::span(&m->scale, 1)));
    hasher.bytes(floats(m->a)).bytes(floats(m->b));
  }
  for (const auto& [name, tensor] : adapter.replaced) {
    const TensorView view = tensor->view();
    hasher.field(name).field(std::string(dtype_name(view.dtype))).field(shape_text(view.shape));
    hasher.bytes(view.bytes);
  }
  return hasher.hex();
}

}  // namespace qwb
