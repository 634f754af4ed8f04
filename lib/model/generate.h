// Continuing a sequence of tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "lib/model/model.h"
#include "lib/model/sampling.h"

namespace qwb {

struct GenerationSettings {
  SamplingSettings sampling;
  int64_t max_tokens = 128;
  bool stop_at_eos = true;
  std::vector<int64_t> eos;  // the model's own when empty
};

enum class StopReason { eos, length, context, stopped };

// Feeds `prompt` (at least one token), then calls `on_token` with every new token (the eos token is
// not reported) until one of: eos, max_tokens, the cache is full (context), on_token returns false
// (stopped). The cache goes on holding the sequence. Throws what Model::forward throws, interrupted
// among it.
StopReason generate(const Model& model, std::span<const int32_t> prompt,
                    const GenerationSettings& settings, KvCache& cache,
                    const std::function<bool(int32_t)>& on_token, const StopToken& stop = {});

}  // namespace qwb
