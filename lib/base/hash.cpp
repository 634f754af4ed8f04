#include "lib/base/hash.h"

#include <xxhash.h>

#include <new>
#include <utility>

namespace qwb {
namespace {

std::string to_hex(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : canonical.digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace

Hasher::Hasher() : state_(XXH3_createState()) {
  if (state_ == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(state_);
}
Hasher::~Hasher() {
  XXH3_freeState(state_);
}
Hasher::Hasher(Hasher&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
Hasher& Hasher::operator=(Hasher&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}

Hasher& Hasher::bytes(Bytes data) {
  XXH3_128bits_update(state_, data.data(), data.size());
  return *this;
}

Hasher& Hasher::field(std::string_view text) {
  const uint64_t size = text.size();
  XXH3_128bits_update(state_, &size, sizeof(size));
  return bytes(as_bytes(text));
}

std::string Hasher::hex() const {
  return to_hex(XXH3_128bits_digest(state_));
}

std::string hash_hex(Bytes data) {
  return to_hex(XXH3_128bits(data.data(), data.size()));
}

}  // namespace qwb
