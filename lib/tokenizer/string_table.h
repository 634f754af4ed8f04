// A flat hash table from strings to int32: open addressing, keys in one arena, no allocation per
// entry. Filled once, then read by any number of threads.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace qwb::tokenizer {

// A fast mixing hash for short keys; not stored anywhere, so it may change.
inline uint64_t hash_text(std::string_view text) {
  constexpr uint64_t kMultiplier = 0x9e3779b97f4a7c15u;
  uint64_t hash = text.size() * kMultiplier;
  const char* at = text.data();
  size_t left = text.size();
  const auto mix = [&](uint64_t word) {
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 29;
  };
  for (; left >= 8; left -= 8, at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, at, 8);
    mix(word);
  }
  if (left > 0) {
    uint64_t word = 0;
    std::memcpy(&word, at, left);
    mix(word);
  }
  return hash ^ hash >> 32;
}

class StringTable {
 public:
  static constexpr int32_t kAbsent = -1;

 private:
  struct Slot {
    uint64_t offset = 0;
    uint32_t size = 0;
    int32_t value = kAbsent;
  };
  template <typename Slots>
  static auto& find(Slots& slots, const std::vector<char>& arena, std::string_view key) {
    const size_t mask = slots.size() - 1;
    for (size_t at = hash_text(key) & mask;; at = (at + 1) & mask) {
      auto& slot = slots[at];
      if (slot.value == kAbsent || std::string_view(arena.data() + slot.offset, slot.size) == key)
        return slot;
    }
  }

 public:
  // Adds or replaces.
  void set(std::string_view key, int32_t value) {
    if ((count_ + 1) * 2 > slots_.size()) grow();
    Slot& slot = find(slots_, arena_, key);
    if (slot.value == kAbsent) {
      slot.offset = arena_.size();
      slot.size = static_cast<uint32_t>(key.size());
      arena_.insert(arena_.end(), key.begin(), key.end());
      ++count_;
    }
    slot.value = value;
  }
  int32_t get(std::string_view key) const {
    if (slots_.empty()) return kAbsent;
    return find(slots_, arena_, key).value;
  }
  size_t size() const { return count_; }

 private:
  void grow() {
    std::vector<Slot> larger(slots_.empty() ? 64 : slots_.size() * 2);
    for (const Slot& slot : slots_) {
      if (slot.value != kAbsent)
        find(larger, arena_, {arena_.data() + slot.offset, slot.size}) = slot;
    }
    slots_.swap(larger);
  }

  std::vector<Slot> slots_;
  std::vector<char> arena_;
  size_t count_ = 0;
};

}  // namespace qwb::tokenizer
