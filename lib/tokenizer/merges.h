// The merge rules of a BPE model, and their application to the symbols of one piece: repeatedly
// merge the adjacent pair of lowest rank, leftmost first, until no pair is left.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/tokenizer/workspace.h"

namespace qwb::tokenizer {

class Merges {
 public:
  struct Rule {
    uint32_t rank = kNone;
    int32_t merged = -1;
  };
  static constexpr uint32_t kNone = UINT32_MAX;

  void reserve(size_t count);
  // The later of two rules for one pair counts, as in tokenizers.
  void set(int32_t left, int32_t right, Rule rule);
  Rule find(int32_t left, int32_t right) const {
    const uint64_t key = pack(left, right);
    for (size_t at = slot_of(key);; at = (at + 1) & mask_) {
      if (slots_[at].key == key) return slots_[at].rule;
      if (slots_[at].key == kFree) return {};
    }
  }
  // Merges workspace.symbols in place. O(n log n); short pieces are merged without a heap.
  void apply(Workspace& workspace) const;

 private:
  struct Slot {
    uint64_t key = kFree;
    Rule rule;
  };
  static constexpr uint64_t kFree = UINT64_MAX;
  static constexpr size_t kShort = 40;
  static uint64_t pack(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t slot_of(uint64_t key) const {
    key *= 0x9e3779b97f4a7c15u;
    return (key ^ key >> 32) & mask_;
  }
  void apply_short(std::vector<int32_t>& symbols) const;
  void apply_long(Workspace& workspace) const;

  std::vector<Slot> slots_ = std::vector<Slot>(1);  // at least half free, so that a search ends
  size_t mask_ = 0;
};

}  // namespace qwb::tokenizer
