#include "tests/hub/fake_repo_helper.h"

#include <openssl/evp.h>

#include <algorithm>

#include "lib/base/rng.h"

namespace qwb::testing {
namespace {

std::string hex_digest(const EVP_MD* kind, const std::string& head, Bytes data) {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  unsigned char value[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestInit_ex(context, kind, nullptr);
  EVP_DigestUpdate(context, head.data(), head.size());
  EVP_DigestUpdate(context, data.data(), data.size());
  EVP_DigestFinal_ex(context, value, &length);
  EVP_MD_CTX_free(context);
  std::string text;
  char two[3];
  for (unsigned i = 0; i < length; ++i)
    text += (std::snprintf(two, sizeof two, "%02x", value[i]), two);
  return text;
}

}  // namespace

std::string sha256_hex(Bytes data) {
  return hex_digest(EVP_sha256(), "", data);
}

std::string git_blob_hex(Bytes data) {
  return hex_digest(EVP_sha1(), "blob " + std::to_string(data.size()) + std::string(1, '\0'), data);
}

std::string random_bytes(size_t count, uint64_t seed) {
  Rng rng(seed);
  std::string bytes((count + 7) / 8 * 8, '\0');
  for (size_t i = 0; i < bytes.size(); i += 8) store(bytes.data() + i, rng.next());
  bytes.resize(count);
  return bytes;
}

void FakeRepo::put(const std::string& path, const std::string& content, std::optional<bool> lfs) {
  auto owner = std::make_shared<const std::string>(content);
  put_view(path, as_bytes(*owner), owner,
           lfs.value_or(path.find(".safetensors") != std::string::npos &&
                        path.find(".json") == std::string::npos));
}

void FakeRepo::put_view(const std::string& path, Bytes content, std::shared_ptr<const void> owner,
                        bool lfs) {
  FakeFile file{path, std::move(owner), content, lfs, {}, {}};
  file.etag = lfs ? sha256_hex(content) : git_blob_hex(content);
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + file.etag + "\nsize " +
      std::to_string(content.size()) + "\n";
  file.oid = lfs ? git_blob_hex(as_bytes(pointer)) : file.etag;
  files.erase(
      std::remove_if(files.begin(), files.end(), [&](const FakeFile& f) { return f.path == path; }),
      files.end());
  files.push_back(std::move(file));
  std::sort(files.begin(), files.end(),
            [](const FakeFile& a, const FakeFile& b) { return a.path < b.path; });
  std::string all;
  for (const FakeFile& f : files) all += f.path + " " + f.oid + "\n";
  commit = git_blob_hex(as_bytes(all));
}

const FakeFile* FakeRepo::find(const std::string& path) const {
  for (const FakeFile& file : files) {
    if (file.path == path) return &file;
  }
  return nullptr;
}

}  // namespace qwb::testing
