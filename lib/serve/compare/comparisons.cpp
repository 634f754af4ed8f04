#include "lib/serve/compare/comparisons.h"

#include "lib/serve/compare/comparison.h"

namespace qwb::serve {

void Comparisons::add(const std::string& id, const std::shared_ptr<Comparison>& comparison) {
  const std::lock_guard lock(mutex_);
  running_[id] = comparison;
}

std::shared_ptr<Comparison> Comparisons::find(const std::string& id, const std::string& owner) {
  const std::lock_guard lock(mutex_);
  const auto found = running_.find(id);
  const auto comparison = found == running_.end() ? nullptr : found->second.lock();
  return comparison != nullptr && comparison->owner() == owner ? comparison : nullptr;
}

void Comparisons::remove(const std::string& id) {
  const std::lock_guard lock(mutex_);
  running_.erase(id);
}

}  // namespace qwb::serve
