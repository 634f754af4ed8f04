#include "lib/serve/engine/prefix_store.h"

#include <algorithm>
#include <utility>

namespace qwb::serve {

// Tokens of whole pieces with which both begin.
int64_t PrefixStore::common(const Entry& entry, const Model& model, const std::string& owner,
                            std::span<const int32_t> prompt) const {
  if (entry.model != &model || entry.owner != owner) return 0;
  const auto [a, b] =
      std::mismatch(entry.tokens.begin(), entry.tokens.end(), prompt.begin(), prompt.end());
  return (a - entry.tokens.begin()) / piece_ * piece_;
}

PrefixStore::Hit PrefixStore::find(const Model& model, const std::string& owner,
                                   std::span<const int32_t> prompt) {
  // The last token has to be read: what follows it is asked for.
  const int64_t most = (std::ssize(prompt) - 1) / piece_ * piece_;
  auto best = entries_.end();
  int64_t tokens = 0;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    const int64_t found = std::min(most, common(*entry, model, owner, prompt));
    if (found <= tokens) continue;
    best = entry;
    tokens = found;
  }
  if (tokens == 0) return {};
  entries_.splice(entries_.begin(), entries_, best);
  return {&entries_.front().cache, tokens};
}

int64_t PrefixStore::worth_keeping(const Model& model, const std::string& owner,
                                   std::span<const int32_t> prompt) const {
  const int64_t whole = std::ssize(prompt) / piece_ * piece_;
  const bool kept = std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return common(entry, model, owner, prompt) >= whole;
  });
  return kept ? 0 : whole;
}

void PrefixStore::keep(const Model& model, const std::string& owner,
                       std::span<const int32_t> tokens, KvCache cache) {
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const bool part = common(*entry, model, owner, tokens) == std::ssize(entry->tokens);
    if (part) bytes_ -= entry->cache.bytes();
    entry = part ? entries_.erase(entry) : std::next(entry);
  }
  bytes_ += cache.bytes();
  entries_.push_front({&model, owner, {tokens.begin(), tokens.end()}, std::move(cache)});
}

bool PrefixStore::drop_oldest() {
  if (entries_.empty()) return false;
  bytes_ -= entries_.back().cache.bytes();
  entries_.pop_back();
  return true;
}

}  // namespace qwb::serve
