// The hashes by which the Hub names contents.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "lib/base/bytes.h"

namespace qwb::hub {

// sha256 of the content, or git's name of a blob: sha1("blob " + decimal size + NUL + content).
class Digest {
 public:
  // The one that an etag of 64 or 40 hex digits belongs to. Throws unsupported for another etag.
  Digest(const std::string& etag, int64_t size);
  ~Digest();
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;
  void update(Bytes data);
  // Lower-case hex. Ends the digest.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qwb::hub
