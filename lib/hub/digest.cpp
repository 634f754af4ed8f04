#include "lib/hub/digest.h"

#include <openssl/evp.h>

#include <array>

#include "lib/base/error.h"
#include "lib/hub/names.h"

namespace qwb::hub {

struct Digest::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

Digest::Digest(const std::string& etag, int64_t size) : state_(std::make_unique<State>()) {
  const bool sha256 = is_hex(etag, 64);
  if (!sha256 && !is_hex(etag, 40)) {
    throw Error(ErrorKind::unsupported,
                "the server gives no hash of this file, so that it cannot be verified", {},
                "use the Hub itself, or a mirror that passes its etags on");
  }
  if (state_->context == nullptr ||
      EVP_DigestInit_ex(state_->context, sha256 ? EVP_sha256() : EVP_sha1(), nullptr) != 1)
    throw Error(ErrorKind::unsupported,
                "OpenSSL offers no " + std::string(sha256 ? "sha256" : "sha1"));
  if (!sha256) {
    std::string head = "blob " + std::to_string(size);
    head.push_back('\0');
    update(as_bytes(head));
  }
}

Digest::~Digest() = default;
Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;

void Digest::update(Bytes data) {
  EVP_DigestUpdate(state_->context, data.data(), data.size());
}

std::string Digest::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> value{};
  unsigned length = 0;
  EVP_DigestFinal_ex(state_->context, value.data(), &length);
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (unsigned i = 0; i < length; ++i) {
    text += kHex[value[i] >> 4];
    text += kHex[value[i] & 15];
  }
  return text;
}

}  // namespace qwb::hub
