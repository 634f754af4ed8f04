// The files of a repository on the fake Hub, with the hashes that name them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/bytes.h"

namespace qwb::testing {

std::string sha256_hex(Bytes data);
std::string git_blob_hex(Bytes data);
// The same bytes for the same seed, on every machine.
std::string random_bytes(size_t count, uint64_t seed);

struct FakeFile {
  std::string path;
  std::shared_ptr<const void> owner;
  Bytes content;
  bool lfs = false;
  std::string etag;  // sha256 of the content, or its git blob hash
  std::string oid;   // git blob hash, of an LFS file that of its pointer
};

struct FakeRepo {
  std::string kind = "models";
  std::string id;
  std::string commit;                       // of "main"
  std::map<std::string, std::string> refs;  // further names of the commit
  std::vector<FakeFile> files;
  std::string allowed_token;  // gated: only with this token; empty: open to all
  bool hidden = false;        // private: to the world it does not exist

  // Adds or replaces a file; the commit changes.
  void put(const std::string& path, const std::string& content,
           std::optional<bool> lfs = std::nullopt);
  // Keeps a view instead of a copy.
  void put_view(const std::string& path, Bytes content, std::shared_ptr<const void> owner,
                bool lfs);
  const FakeFile* find(const std::string& path) const;
};

}  // namespace qwb::testing
