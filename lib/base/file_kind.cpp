#include "lib/base/file_kind.h"

#include <algorithm>
#include <cctype>

#include "lib/base/error.h"

namespace qwb {
namespace {

constexpr char kPage[] = "is an HTML page: a server or a portal sent it instead";
constexpr std::string_view kPointer = "version https://git-lfs.github.com/spec/";
constexpr std::string_view kDecimalDigits = "0123456789";
constexpr char kFetchAgain[] =
    "the download went wrong; fetch the file again (qwb-pull checks what it gets)";

std::string_view start_of(Bytes content, size_t most) {
  return as_text(content.subspan(0, std::min(content.size(), most)));
}

std::string_view without_space(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ? std::string_view{} : text.substr(first);
}

bool starts_like(std::string_view text, std::string_view lower) {
  return text.size() >= lower.size() &&
         std::equal(lower.begin(), lower.end(), text.begin(), [](char a, char b) {
           return a == std::tolower(static_cast<unsigned char>(b));
         });
}

bool is_page(std::string_view text) {
  const std::string_view begin = without_space(text);
  return starts_like(begin, "<!doctype html") || starts_like(begin, "<html") ||
         starts_like(begin, "<head") || starts_like(begin, "<body") ||
         starts_like(begin, "<script");
}

std::optional<FileKind> by_magic(std::string_view text) {
  struct Magic {
    std::string_view bytes;
    const char *what, *advice;
  };
  static constexpr Magic kMagics[] = {
      {std::string_view("PK\x03\x04", 4), "is a ZIP archive or a pickled PyTorch file",
       "of PyTorch's files those are read that are named pytorch_model.bin, or by its index"},
      {std::string_view("\x80\x02", 2), "is a pickled Python object",
       "of PyTorch's files those are read that are named pytorch_model.bin, or by its index"},
      {"GGUF", "is a GGUF file", "name the file itself, or give it a name that ends in .gguf"},
      {"\x1f\x8b", "is compressed with gzip", "unpack it first"},
      {std::string_view("\x28\xb5\x2f\xfd", 4), "is compressed with zstd", "unpack it first"},
      {std::string_view("\xfd\x37zXZ", 5), "is compressed with xz", "unpack it first"},
      {"BZh", "is compressed with bzip2", "unpack it first"},
      {"\x89HDF", "is an HDF5 file", "only safetensors and GGUF are read"},
      {"ggml", "is a GGML file of before GGUF",
       "convert it with an old llama.cpp, or take the GGUF"},
      {"lmgg", "is a GGML file of before GGUF",
       "convert it with an old llama.cpp, or take the GGUF"},
      {"tjgg", "is a GGML file of before GGUF",
       "convert it with an old llama.cpp, or take the GGUF"},
      {"PAR1", "is a Parquet file", "this place takes another kind of file"}};
  for (const Magic& magic : kMagics) {
    if (text.starts_with(magic.bytes)) return FileKind{magic.what, magic.advice};
  }
  return std::nullopt;
}

[[noreturn]] void refuse(const FileKind& kind, const std::string& where) {
  throw Error(ErrorKind::failed, kind.what, where, kind.advice);
}

}  // namespace

std::optional<FileKind> lfs_pointer(Bytes content) {
  const std::string_view text = start_of(content, 1024);
  if (!text.starts_with(kPointer)) return std::nullopt;
  FileKind kind{"is a Git LFS pointer, not the file itself",
                "run `git lfs pull` in that folder, or qwb-pull"};
  const size_t size = text.find("\nsize ");
  if (size == std::string_view::npos) return kind;
  const std::string_view digits = text.substr(size + 6);
  const std::string_view number = digits.substr(0, digits.find_first_not_of(kDecimalDigits));
  if (!number.empty()) kind.what += " (which has " + std::string(number) + " bytes)";
  return kind;
}

std::optional<FileKind> foreign_kind(Bytes content) {
  if (content.empty()) return FileKind{"is empty", kFetchAgain};
  if (auto pointer = lfs_pointer(content)) return pointer;
  const std::string_view text = start_of(content, 512);
  if (auto known = by_magic(text)) return known;
  if (is_page(text)) return FileKind{kPage, kFetchAgain};
  const std::string_view begin = without_space(text);
  if (begin.starts_with("<?xml") || begin.starts_with("<Error>"))
    return FileKind{"is an XML answer, such as a server's error", kFetchAgain};
  if (begin.starts_with("{\"error\""))
    return FileKind{"is a server's error, not the file", kFetchAgain};
  if (begin.starts_with("Entry not found") || begin.starts_with("Invalid username or password") ||
      begin.starts_with("Access to model"))
    return FileKind{"is the Hub's error message, not the file", kFetchAgain};
  if (begin.starts_with("404: Not Found") || begin.starts_with("403: Forbidden") ||
      begin.starts_with("Not Found") || begin.starts_with("Forbidden"))
    return FileKind{"is a server's error, not the file", kFetchAgain};
  if (content.size() >= 64 && std::all_of(content.begin(), content.begin() + 64,
                                          [](std::byte byte) { return byte == std::byte{0}; }))
    return FileKind{"begins with zeros: its content never reached the disk", kFetchAgain};
  return std::nullopt;
}

void refuse_foreign(Bytes content, const std::string& where) {
  if (const auto kind = foreign_kind(content)) refuse(*kind, where);
}

void refuse_lfs_pointer(Bytes content, const std::string& where) {
  if (const auto kind = lfs_pointer(content)) refuse(*kind, where);
}

void refuse_page(std::string_view content, const std::string& where) {
  if (is_page(content))
    throw Error(ErrorKind::unsupported, kPage, where,
                "fetch the text again; if HTML is meant, name the file .html");
}

void refuse_no_json(std::string_view content, const std::string& where) {
  const std::string_view begin = without_space(content);
  if (content.empty()) return;  // a marker may be empty; who wants JSON says so
  if (begin.starts_with('{') || begin.starts_with('[')) return;
  if (const auto kind = foreign_kind(as_bytes(content))) refuse(*kind, where);
}

}  // namespace qwb
