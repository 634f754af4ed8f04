#include "lib/base/memory_ledger.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "lib/base/mapped_ranges.h"

namespace qwb {
namespace {

int64_t now(MemoryKind kind) {
  return memory_ledger()[kind].now;
}

TEST(MemoryLedger, ClaimsAreCountedByKindWhileTheyLive) {
  const MemoryLedger before = memory_ledger();
  {
    const MemoryClaim cache(MemoryKind::kv_cache, 1000);
    const MemoryClaim file(MemoryKind::mapped_weights, 500);
    EXPECT_EQ(now(MemoryKind::kv_cache), before[MemoryKind::kv_cache].now + 1000);
    EXPECT_EQ(now(MemoryKind::mapped_weights), before[MemoryKind::mapped_weights].now + 500);
    EXPECT_EQ(memory_ledger().allocated.now, before.allocated.now + 1000);  // mapped files are not
  }
  EXPECT_EQ(memory_ledger().allocated.now, before.allocated.now);
  EXPECT_EQ(now(MemoryKind::mapped_weights), before[MemoryKind::mapped_weights].now);
}

TEST(MemoryLedger, MovedClaimsCountOnce) {
  const int64_t before = now(MemoryKind::scratch);
  MemoryClaim first(MemoryKind::scratch, 100);
  MemoryClaim second(std::move(first));
  EXPECT_EQ(now(MemoryKind::scratch), before + 100);
  second = MemoryClaim(MemoryKind::scratch, 7);  // the old one ends
  EXPECT_EQ(now(MemoryKind::scratch), before + 7);
  second = MemoryClaim();
  EXPECT_EQ(now(MemoryKind::scratch), before);
}

TEST(MemoryLedger, PeaksStayUntilTheyAreReset) {
  reset_memory_ledger_peaks();
  const int64_t base = memory_ledger().allocated.now;
  {
    const MemoryClaim a(MemoryKind::activations, 300);
    const MemoryClaim b(MemoryKind::scratch, 40);
  }
  const MemoryClaim c(MemoryKind::activations, 200);
  EXPECT_EQ(memory_ledger()[MemoryKind::activations].peak - base, 300);
  EXPECT_EQ(memory_ledger().allocated.peak - base, 340);
  reset_memory_ledger_peaks();
  EXPECT_EQ(memory_ledger()[MemoryKind::activations].peak - base, 200);
  EXPECT_EQ(memory_ledger().allocated.peak - base, 200);
}

TEST(MemoryLedger, ManyThreadsLoseNothing) {
  const int64_t before = now(MemoryKind::scratch);
  reset_memory_ledger_peaks();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 20'000; ++i) const MemoryClaim claim(MemoryKind::scratch, 3);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(now(MemoryKind::scratch), before);
  EXPECT_GE(memory_ledger()[MemoryKind::scratch].peak, before + 3);
  EXPECT_LE(memory_ledger()[MemoryKind::scratch].peak, before + 12);
}

TEST(MemoryLedger, KindsHaveNames) {
  std::set<std::string> names;
  for (int i = 0; i < kMemoryKinds; ++i) names.insert(memory_kind_name(static_cast<MemoryKind>(i)));
  EXPECT_EQ(names, (std::set<std::string>{"mapped_weights", "weights", "kv_cache", "activations",
                                          "scratch"}));
}

TEST(MappedRanges, KnowTheirBytesAndNoOthers) {
  const std::vector<char> memory(300);
  note_mapped_range(memory.data() + 100, 100);
  EXPECT_FALSE(in_mapped_file(memory.data() + 99));
  EXPECT_TRUE(in_mapped_file(memory.data() + 100));
  EXPECT_TRUE(in_mapped_file(memory.data() + 199));
  EXPECT_FALSE(in_mapped_file(memory.data() + 200));
  forget_mapped_range(memory.data() + 100);
  EXPECT_FALSE(in_mapped_file(memory.data() + 100));
}

}  // namespace
}  // namespace qwb
