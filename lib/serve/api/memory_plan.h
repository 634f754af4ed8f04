// How much memory keys and values may take, and how long the texts of each model may become.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qwb::serve {

struct PlannedModel {
  std::string name;
  int64_t limit;      // tokens that it can look back on
  int64_t per_token;  // bytes of keys and values
};

struct MemoryWishes {
  int64_t slots = 4;
  std::optional<int64_t> context;  // tokens
  std::optional<int64_t> kv_bytes;
  int64_t available = 0;  // bytes that the machine has left beside the weights
};

struct MemoryPlan {
  int64_t kv_bytes = 0;
  std::vector<int64_t> contexts;  // as the models
};

// Left open: half of what is available, but no more than twice what all slots can fill; and the
// longest context, up to the model's limit, that all slots can have at once. Throws usage for a
// context beyond a model's limit or beyond the memory.
MemoryPlan plan_memory(const std::vector<PlannedModel>& models, const MemoryWishes& wishes);

}  // namespace qwb::serve
