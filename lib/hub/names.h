// Names on the Hub and what they become on disk. Names that come from a server are hostile until
// checked: they become paths below the cache folder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qwb::hub {

enum class RepoKind { model, dataset };

struct RepoName {
  RepoKind kind = RepoKind::model;
  std::string id;                 // "mistralai/Mistral-7B-v0.1", "gpt2"
  std::string revision = "main";  // branch, tag, "refs/pr/1" or 40 hex digits

  std::string text() const;       // "org/name" or "org/name@revision"
  std::string folder() const;     // "models--org--name"
  std::string api_path() const;   // "/api/models/org/name"
  std::string page_path() const;  // "/org/name", "/datasets/org/name"
  bool is_commit() const;         // the revision is a commit: it never changes
};

// Reads "REPO" or "REPO@REVISION". Throws usage, saying what a name looks like.
RepoName parse_repo(const std::string& text, RepoKind kind);
// True if parse_repo() would accept it.
bool is_repo_name(const std::string& text);

// A file of a repository at some commit.
struct RemoteFile {
  std::string path;  // checked by check_file_name
  int64_t size = 0;
  // The blob's name: lower-case hex sha256 of the content (64 digits: LFS and xet files), or the
  // sha1 of the git blob (40).
  std::string etag;
  std::string git_oid;   // of a tree listing: the git blob (of an LFS file: of its pointer)
  std::string xet_hash;  // may be empty
};

// Throws verification unless `path` is a relative path that stays below its folder on every system:
// no "..", ".", empty or ".git" component, no leading '/' or drive, no backslash or control
// character, no name reserved by Windows (CON, NUL, ...), not longer than 1024 bytes. `where` is
// the repository.
void check_file_name(const std::string& path, const std::string& where);
// The same, and no name is a folder of another one ("a" and "a/b") and none comes twice.
void check_file_names(const std::vector<RemoteFile>& files, const std::string& where);

// Exactly `digits` lower-case hexadecimal digits.
bool is_hex(const std::string& text, size_t digits);

}  // namespace qwb::hub
