#include "lib/serve/compare/comparisons.h"

#include "lib/serve/compare/comparison.h"

namespace qwb::serve {

void Comparisons::add(const std::string& id, const std::shared_ptr<Comparison>& comparison) {
  const std::lock_guard lock(mutex_);
  running_[id] = comparison;
}

std::shared_ptr<Comparison> Comparisons::find(const std::string& id, const std::string& owner) {
  // Its last user may be this one; its end calls remove(), so the lock must be gone by then.
  std::shared_ptr<Comparison> comparison;
  {
    const std::lock_guard lock(mutex_);
    const auto found = running_.find(id);
    if (found != running_.end()) comparison = found->second.lock();
  }
  return comparison != nullptr && comparison->owner() == owner ? comparison : nullptr;
}

void Comparisons::remove(const std::string& id, const std::weak_ptr<Comparison>& comparison) {
  const std::lock_guard lock(mutex_);
  const auto found = running_.find(id);
  if (found == running_.end()) return;
  const std::weak_ptr<Comparison>& there = found->second;
  if (!there.owner_before(comparison) && !comparison.owner_before(there)) running_.erase(found);
}

}  // namespace qwb::serve
