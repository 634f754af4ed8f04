#include "lib/serve/api/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/error.h"
#include "lib/base/text.h"

namespace qwb::serve {
namespace {

constexpr int64_t kRound = 256;  // tokens: a context that memory limits is a multiple of them

int64_t context_of(const PlannedModel& model, const MemoryWishes& wishes, int64_t kv_bytes) {
  if (wishes.context && *wishes.context > model.limit) {
    throw Error(ErrorKind::usage, fmt::format("--context {} is beyond the limit of {}, {}",
                                              *wishes.context, model.name, model.limit));
  }
  const int64_t room = kv_bytes / wishes.slots / model.per_token / kRound * kRound;
  const int64_t context = wishes.context.value_or(std::min(model.limit, std::max(room, kRound)));
  if (context * model.per_token <= kv_bytes) return context;
  throw Error(
      ErrorKind::usage,
      fmt::format("{} tokens of {} need {} of keys and values, and there is room for {}", context,
                  model.name, human_bytes(context * model.per_token), human_bytes(kv_bytes)),
      {}, "raise --kv-memory or lower --context");
}

}  // namespace

MemoryPlan plan_memory(const std::vector<PlannedModel>& models, const MemoryWishes& wishes) {
  int64_t most = 0;
  for (const PlannedModel& model : models)
    most = std::max(most, wishes.context.value_or(model.limit) * model.per_token);
  MemoryPlan plan;
  plan.kv_bytes = wishes.kv_bytes.value_or(std::min(wishes.available / 2, 2 * wishes.slots * most));
  for (const PlannedModel& model : models)
    plan.contexts.push_back(context_of(model, wishes, plan.kv_bytes));
  return plan;
}

}  // namespace qwb::serve
