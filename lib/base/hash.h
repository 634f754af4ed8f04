// XXH3-128 content hashes: for cache keys and damage detection, not against an adversary (downloads
// are checked by sha256).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "lib/base/bytes.h"

struct XXH3_state_s;

namespace qwb {

class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  // Raw bytes: the digest depends on their concatenation only.
  Hasher& bytes(Bytes data);
  // A length-prefixed field, so that ("ab","c") and ("a","bc") differ.
  Hasher& field(std::string_view text);
  // 32 lower-case hex digits, in the canonical (big-endian) order that xxhsum prints. May be called
  // repeatedly.
  std::string hex() const;

 private:
  XXH3_state_s* state_;
};

// The digest of one piece of memory.
std::string hash_hex(Bytes data);

}  // namespace qwb
