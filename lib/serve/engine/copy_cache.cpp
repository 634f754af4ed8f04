#include "lib/serve/engine/copy_cache.h"

#include "lib/model/attention.h"

namespace qwb::serve {

void copy_cache(const Model& model, KvCache& from, int64_t length, KvCache& to) {
  const Executor& executor = model.executor();
  for (int64_t i = 0; i < model.config().layers; ++i) {
    const LayerCache source = from.layer(i), target = to.layer(i);
    executor.copy(source.keys.row_range(0, length), target.keys.row_range(0, length));
    executor.copy(source.values.row_range(0, length), target.values.row_range(0, length));
  }
  to.truncate(0);
  to.advance(length);
}

}  // namespace qwb::serve
