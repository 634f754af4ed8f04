// The working memory of one encode() call: the cache of words already encoded, and buffers.
// Borrowed from a pool, so that concurrent calls never share one and a later call finds the cache
// warm.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "lib/tokenizer/string_table.h"

namespace qwb::tokenizer {

// A bounded, direct-mapped cache: a word of up to 27 bytes and up to 8 ids fill one line of 64
// bytes; a newcomer replaces.
class WordCache {
 public:
  static constexpr size_t kMaxBytes = 27;
  static constexpr size_t kMaxIds = 8;
  static constexpr size_t kSlots = 1 << 14;

  // The ids of `word`, or an empty span with `slot` set to where put() belongs (null for a long
  // word).
  struct Slot {
    int32_t ids[kMaxIds];
    uint8_t bytes = 0;  // 0: free
    uint8_t count = 0;
    char text[kMaxBytes + 3];
  };
  static_assert(sizeof(Slot) == 64);

  Slot* find(std::string_view word, bool& hit) {
    hit = false;
    if (word.empty() || word.size() > kMaxBytes) return nullptr;
    if (slots_.empty()) slots_.resize(kSlots);
    Slot& slot = slots_[hash_text(word) & (kSlots - 1)];
    hit = slot.bytes == word.size() && std::memcmp(slot.text, word.data(), word.size()) == 0;
    return &slot;
  }
  static void put(Slot& slot, std::string_view word, std::span<const int32_t> ids) {
    if (ids.size() > kMaxIds) return;
    slot.bytes = static_cast<uint8_t>(word.size());
    slot.count = static_cast<uint8_t>(ids.size());
    std::memcpy(slot.text, word.data(), word.size());
    if (!ids.empty()) std::memcpy(slot.ids, ids.data(), ids.size() * sizeof(int32_t));
  }

 private:
  std::vector<Slot> slots_;
};

// A pair waiting to be merged in a long word.
struct Candidate {
  uint32_t rank;
  int32_t merged;
  int64_t at;
};

// One symbol of a long word, in a doubly linked list. id < 0: merged away.
struct Symbol {
  int32_t id;
  int64_t previous, next;
};

struct Workspace {
  WordCache cache;
  std::vector<int32_t> symbols;
  std::vector<Symbol> list;
  std::vector<Candidate> heap;
  // Unigram: per byte position, the best path's score, where its last piece begins, and that
  // piece's id.
  struct PathEnd {
    double score;
    int64_t start;
    int32_t id;
  };
  std::vector<PathEnd> paths;
};

class WorkspacePool {
 public:
  class Loan {
   public:
    Loan(WorkspacePool& pool, std::unique_ptr<Workspace> workspace)
        : pool_(pool), workspace_(std::move(workspace)) {}
    ~Loan() { pool_.give_back(std::move(workspace_)); }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    Workspace& operator*() { return *workspace_; }

   private:
    WorkspacePool& pool_;
    std::unique_ptr<Workspace> workspace_;
  };
  Loan borrow() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        auto workspace = std::move(idle_.back());
        idle_.pop_back();
        return {*this, std::move(workspace)};
      }
    }
    return {*this, std::make_unique<Workspace>()};
  }

 private:
  // Buffers that grew for a huge text are freed.
  static constexpr size_t kMaxIdle = 64, kKeep = 1 << 16;
  void give_back(std::unique_ptr<Workspace> workspace) noexcept {
    if (workspace->list.capacity() > kKeep) workspace->list = {};
    if (workspace->heap.capacity() > kKeep) workspace->heap = {};
    if (workspace->symbols.capacity() > kKeep) workspace->symbols = {};
    if (workspace->paths.capacity() > kKeep) workspace->paths = {};
    const std::lock_guard lock(mutex_);
    if (idle_.size() < kMaxIdle) idle_.push_back(std::move(workspace));
  }
  WorkspacePool(const WorkspacePool&) = delete;
  WorkspacePool& operator=(const WorkspacePool&) = delete;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> idle_;

 public:
  WorkspacePool() { idle_.reserve(kMaxIdle); }
};

}  // namespace qwb::tokenizer
