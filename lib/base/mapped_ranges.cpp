#include "lib/base/mapped_ranges.h"

#include <cstdint>
#include <map>
#include <mutex>

namespace qwb {
namespace {

struct Ranges {
  std::mutex mutex;
  std::map<uintptr_t, size_t> sizes;  // by first address; disjoint
};
// Never destroyed: mappings of static lifetime end after main.
Ranges& ranges() {
  static auto* all = new Ranges;
  return *all;
}

}  // namespace

void note_mapped_range(const void* begin, size_t size) {
  const std::lock_guard lock(ranges().mutex);
  ranges().sizes[reinterpret_cast<uintptr_t>(begin)] = size;
}

void forget_mapped_range(const void* begin) {
  const std::lock_guard lock(ranges().mutex);
  ranges().sizes.erase(reinterpret_cast<uintptr_t>(begin));
}

bool in_mapped_file(const void* at) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  const std::lock_guard lock(ranges().mutex);
  auto after = ranges().sizes.upper_bound(address);
  if (after == ranges().sizes.begin()) return false;
  --after;
  return address - after->first < after->second;
}

}  // namespace qwb
