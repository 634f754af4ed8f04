#include "lib/tensor/large_buffers.h"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "lib/base/memory.h"

namespace qwb {
namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kManyPages = 4 * kHugePage;  // from here on huge pages pay
constexpr size_t kWorthKeeping = size_t{1} << 20;

// Freed buffers by their usable size.
class KeptBuffers {
 public:
  // One of that size or up to an eighth more; null if there is none.
  void* take(size_t size) {
    if (size < kWorthKeeping || !large_buffers_are_reused()) return nullptr;
    const std::lock_guard lock(mutex_);
    const auto it = buffers_.lower_bound(size);
    if (it == buffers_.end() || it->first > size + size / 8) return nullptr;
    void* buffer = it->second;
    bytes_ -= it->first;
    buffers_.erase(it);
    return buffer;
  }
  void put(void* buffer) {
    const size_t size = large_buffers_are_reused() ? ::malloc_usable_size(buffer) : 0;
    if (size < kWorthKeeping) return std::free(buffer);
    const std::lock_guard lock(mutex_);
    largest_ = std::max(largest_, size);
    while (!buffers_.empty() && bytes_ + size > 2 * largest_) {
      bytes_ -= buffers_.begin()->first;
      std::free(buffers_.begin()->second);
      buffers_.erase(buffers_.begin());
    }
    buffers_.emplace(size, buffer);
    bytes_ += size;
  }

 private:
  std::mutex mutex_;
  std::multimap<size_t, void*> buffers_;
  size_t bytes_ = 0, largest_ = 0;
};

KeptBuffers& kept_buffers() {
  static KeptBuffers& kept =
      *new KeptBuffers;  // never destroyed: static objects may free buffers after it
  return kept;
}

}  // namespace

void* allocate_buffer(size_t size) {
  if (void* kept = kept_buffers().take(size)) return kept;
  void* buffer = nullptr;
  const size_t alignment = size >= kManyPages ? kHugePage : kCacheLine;
  if (::posix_memalign(&buffer, alignment, size) != 0) throw std::bad_alloc();
  // Faulting in 4 KiB at a time took a tenth of the time of calibration. A refusal does no harm.
  if (size >= kManyPages) ::madvise(buffer, size, MADV_HUGEPAGE);
  return buffer;
}

void free_buffer(void* buffer) {
  kept_buffers().put(buffer);
}

}  // namespace qwb
