// Counts the memory that this process holds, by purpose: the buffers of lib/tensor report their
// allocations here, each with its kind. Bytes as asked for (allocators round up); mapped files are
// address space, not necessarily resident. Thread-safe; an allocation costs two relaxed atomic
// additions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace qwb {

enum class MemoryKind {
  mapped_weights,  // a model's weights in mapped files, counted once however often the file is
                   // mapped
  weights,         // copied, repacked or freshly quantized weights, norms and biases
  kv_cache,
  activations,  // hidden states, queries, logits: what flows between a model's operations
  scratch,  // what kernels and quantizers need inside of an operation; a thread keeps its own for
            // later
};
inline constexpr int kMemoryKinds = 5;
const char* memory_kind_name(MemoryKind kind);

struct MemoryCount {
  int64_t now = 0;
  int64_t peak = 0;  // most at one moment since the start or the last reset
};
struct MemoryLedger {
  std::array<MemoryCount, kMemoryKinds> kinds;
  MemoryCount
      allocated;  // all kinds but mapped_weights together; its peak may be below the sum of peaks

  const MemoryCount& operator[](MemoryKind kind) const { return kinds[static_cast<size_t>(kind)]; }
};
MemoryLedger memory_ledger();
// Peaks start again from what is held now.
void reset_memory_ledger_peaks();

// Bytes that are held while this lives.
class MemoryClaim {
 public:
  MemoryClaim() = default;
  MemoryClaim(MemoryKind kind, int64_t bytes);
  MemoryClaim(MemoryClaim&& other) noexcept;
  MemoryClaim& operator=(MemoryClaim&& other) noexcept;
  ~MemoryClaim();
  MemoryKind kind() const { return kind_; }
  int64_t bytes() const { return bytes_; }

 private:
  MemoryKind kind_ = MemoryKind::scratch;
  int64_t bytes_ = 0;
};

}  // namespace qwb
