// Recognizes, by their first bytes, files that are not what their name promises: the pointer that
// git leaves in the place of a large file, the page of a portal that answered a download, a file of
// another kind.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lib/base/bytes.h"

namespace qwb {

struct FileKind {
  std::string what;    // "is a Git LFS pointer, not the file itself (which has 2393344 bytes)"
  std::string advice;  // what to do about it
};

// Nothing if the file is of no known kind. Reads only the first bytes.
std::optional<FileKind> foreign_kind(Bytes content);
// Only the pointers of Git LFS, which stand for files of every kind.
std::optional<FileKind> lfs_pointer(Bytes content);

// Throw `failed`, naming the file, if its content is foreign, or such a pointer.
void refuse_foreign(Bytes content, const std::string& where);
void refuse_lfs_pointer(Bytes content, const std::string& where);

// A web page in the place of a text.
void refuse_page(std::string_view content, const std::string& where);
// For files whose names end in .json: a web page, an archive and the like, but not an empty file.
void refuse_no_json(std::string_view content, const std::string& where);

}  // namespace qwb
