#include "lib/tokenizer/merges.h"

#include <algorithm>
#include <array>
#include <bit>

namespace qwb::tokenizer {

void Merges::reserve(size_t count) {
  slots_.assign(std::bit_ceil(count * 2 + 2), Slot{});
  mask_ = slots_.size() - 1;
}

void Merges::set(int32_t left, int32_t right, Rule rule) {
  const uint64_t key = pack(left, right);
  size_t at = slot_of(key);
  while (slots_[at].key != kFree && slots_[at].key != key) at = (at + 1) & mask_;
  slots_[at] = {key, rule};
}

void Merges::apply(Workspace& workspace) const {
  if (workspace.symbols.size() <= kShort) {
    apply_short(workspace.symbols);
  } else {
    apply_long(workspace);
  }
}

void Merges::apply_short(std::vector<int32_t>& symbols) const {
  size_t count = symbols.size();
  if (count < 2) return;
  std::array<Rule, kShort> rules;  // rules[i]: of symbols i and i + 1
  for (size_t i = 0; i + 1 < count; ++i) rules[i] = find(symbols[i], symbols[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (rules[i].rank < rules[best].rank) best = i;
    }
    if (rules[best].rank == kNone) break;
    symbols[best] = rules[best].merged;
    for (size_t i = best + 1; i + 1 < count; ++i) {
      symbols[i] = symbols[i + 1];
      rules[i] = rules[i + 1];
    }
    --count;
    if (best + 1 < count) rules[best] = find(symbols[best], symbols[best + 1]);
    if (best > 0) rules[best - 1] = find(symbols[best - 1], symbols[best]);
  }
  symbols.resize(count);
}

void Merges::apply_long(Workspace& workspace) const {
  auto& list = workspace.list;
  auto& heap = workspace.heap;
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  };
  const auto candidate = [&](int64_t left, bool push) {
    const int64_t right = left < 0 ? -1 : list[left].next;
    if (right < 0) return;
    const Rule rule = find(list[left].id, list[right].id);
    if (rule.rank == kNone) return;
    heap.push_back({rule.rank, rule.merged, left});
    if (push) std::push_heap(heap.begin(), heap.end(), later);
  };
  const auto count = static_cast<int64_t>(workspace.symbols.size());
  list.clear();
  heap.clear();
  for (int64_t i = 0; i < count; ++i)
    list.push_back({workspace.symbols[i], i - 1, i + 1 < count ? i + 1 : -1});
  for (int64_t i = 0; i < count; ++i) candidate(i, false);
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Candidate top = heap.back();
    heap.pop_back();
    Symbol& left = list[top.at];
    if (left.id < 0 || left.next < 0) continue;
    Symbol& right = list[left.next];
    const Rule rule = find(left.id, right.id);  // the entry may be older than its neighbourhood
    if (rule.rank == kNone || rule.merged != top.merged) continue;
    left.id = rule.merged;
    right.id = -1;
    left.next = right.next;
    if (right.next >= 0) list[right.next].previous = top.at;
    candidate(left.previous, true);
    candidate(top.at, true);
  }
  workspace.symbols.clear();
  for (int64_t i = 0; i >= 0; i = list[i].next) workspace.symbols.push_back(list[i].id);
}

}  // namespace qwb::tokenizer
