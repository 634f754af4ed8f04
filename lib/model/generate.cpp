#include "lib/model/generate.h"

#include <algorithm>

#include "lib/base/error.h"
#include "lib/model/prefill.h"

namespace qwb {

StopReason generate(const Model& model, std::span<const int32_t> prompt,
                    const GenerationSettings& settings, KvCache& cache,
                    const std::function<bool(int32_t)>& on_token, const StopToken& stop) {
  if (prompt.empty()) throw Error(ErrorKind::usage, "an empty prompt cannot be continued");
  const std::vector<int64_t>& eos = settings.eos.empty() ? model.config().eos : settings.eos;
  Sampler sampler(settings.sampling);
  std::vector<int32_t> sequence(prompt.begin(), prompt.end());
  const Executor& executor = model.executor();
  const Matrix logits = executor.allocate(1, model.config().vocab);
  std::span<const int32_t> fresh = prompt;
  for (int64_t made = 0; made < settings.max_tokens; ++made) {
    stop.check();
    if (cache.length() + static_cast<int64_t>(fresh.size()) > cache.capacity() && made > 0)
      return StopReason::context;
    prefill(model, fresh, cache, logits, stop);
    const int32_t token = sampler.next(executor.download(logits), sequence);
    if (settings.stop_at_eos && std::find(eos.begin(), eos.end(), token) != eos.end())
      return StopReason::eos;
    sequence.push_back(token);
    if (!on_token(token)) return StopReason::stopped;
    fresh = std::span<const int32_t>(sequence).last(1);
  }
  return StopReason::length;
}

}  // namespace qwb
