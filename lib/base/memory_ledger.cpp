#include "lib/base/memory_ledger.h"

#include <atomic>
#include <utility>

namespace qwb {
namespace {

// Never destroyed: threads give their scratch back after main has ended.
struct Counter {
  std::atomic<int64_t> now{0};
  std::atomic<int64_t> peak{0};

  void add(int64_t bytes) {
    const int64_t held = now.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    int64_t most = peak.load(std::memory_order_relaxed);
    while (held > most && !peak.compare_exchange_weak(most, held, std::memory_order_relaxed)) {
    }
  }
  void remove(int64_t bytes) { now.fetch_sub(bytes, std::memory_order_relaxed); }
  void reset() { peak.store(now.load(std::memory_order_relaxed), std::memory_order_relaxed); }
  MemoryCount count() const {
    return {now.load(std::memory_order_relaxed), peak.load(std::memory_order_relaxed)};
  }
};
constinit std::array<Counter, kMemoryKinds> g_kinds;
constinit Counter g_allocated;

Counter& counter(MemoryKind kind) {
  return g_kinds[static_cast<size_t>(kind)];
}

}  // namespace

const char* memory_kind_name(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::mapped_weights:
      return "mapped_weights";
    case MemoryKind::weights:
      return "weights";
    case MemoryKind::kv_cache:
      return "kv_cache";
    case MemoryKind::activations:
      return "activations";
    case MemoryKind::scratch:
      break;
  }
  return "scratch";
}

MemoryLedger memory_ledger() {
  MemoryLedger ledger;
  for (size_t i = 0; i < g_kinds.size(); ++i) ledger.kinds[i] = g_kinds[i].count();
  ledger.allocated = g_allocated.count();
  return ledger;
}

void reset_memory_ledger_peaks() {
  for (Counter& kind : g_kinds) kind.reset();
  g_allocated.reset();
}

MemoryClaim::MemoryClaim(MemoryKind kind, int64_t bytes) : kind_(kind), bytes_(bytes) {
  if (bytes_ == 0) return;
  counter(kind_).add(bytes_);
  if (kind_ != MemoryKind::mapped_weights) g_allocated.add(bytes_);
}

MemoryClaim::MemoryClaim(MemoryClaim&& other) noexcept
    : kind_(other.kind_), bytes_(std::exchange(other.bytes_, 0)) {}

MemoryClaim& MemoryClaim::operator=(MemoryClaim&& other) noexcept {
  std::swap(kind_, other.kind_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MemoryClaim::~MemoryClaim() {
  if (bytes_ == 0) return;
  counter(kind_).remove(bytes_);
  if (kind_ != MemoryKind::mapped_weights) g_allocated.remove(bytes_);
}

}  // namespace qwb
