#include "lib/base/text_file.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>

#include "lib/base/error.h"
#include "lib/base/file_kind.h"
#include "lib/base/names.h"
#include "lib/base/utf8.h"

namespace qwb {
namespace {

using namespace std::string_view_literals;

struct KnownStart {
  std::string_view bytes;
  const char* what;
  const char* advice;
};

constexpr const char* kUnpack = "unpack it first";
constexpr const char* kConvert = "make a text of it first";
// UTF-32 before UTF-16, whose mark begins its own.
constexpr std::array<KnownStart, 27> kStarts = {{
    {"\xff\xfe\0\0"sv, "UTF-32 text", "make UTF-8 of it: iconv -f UTF-32 -t UTF-8 FILE > NEW"},
    {"\0\0\xfe\xff"sv, "UTF-32 text", "make UTF-8 of it: iconv -f UTF-32 -t UTF-8 FILE > NEW"},
    {"\xff\xfe"sv, "UTF-16 text", "make UTF-8 of it: iconv -f UTF-16 -t UTF-8 FILE > NEW"},
    {"\xfe\xff"sv, "UTF-16 text", "make UTF-8 of it: iconv -f UTF-16 -t UTF-8 FILE > NEW"},
    {"\x1f\x8b"sv, "gzip data", "unpack it first: gunzip -k FILE"},
    {"\x28\xb5\x2f\xfd"sv, "zstd data", "unpack it first: unzstd FILE"},
    {"\xfd"
     "7zXZ\0"sv,
     "xz data", "unpack it first: unxz -k FILE"},
    {"BZh91AY&SY"sv, "bzip2 data", "unpack it first: bunzip2 -k FILE"},
    {"\x04\x22\x4d\x18"sv, "lz4 data", kUnpack},
    {"7z\xbc\xaf\x27\x1c"sv, "a 7z archive", kUnpack},
    {"Rar!\x1a\x07"sv, "a rar archive", kUnpack},
    {"PK\x03\x04"sv, "a zip archive, or a document or checkpoint made of one", kUnpack},
    {"PAR1"sv, "a parquet file",
     "datasets.Dataset.from_parquet(FILE).to_json(NEW.jsonl) makes lines of it"},
    {"ARROW1"sv, "an Arrow file",
     "datasets.Dataset.from_file(FILE).to_json(NEW.jsonl) makes lines of it"},
    {"GGUF"sv, "a GGUF model", "name a text here, and the model where models are named"},
    {"%PDF-"sv, "a PDF document", "make a text of it first: pdftotext FILE"},
    {"\x89PNG\r\n"sv, "a PNG picture", kConvert},
    {"\xff\xd8\xff"sv, "a JPEG picture", kConvert},
    {"GIF87a"sv, "a GIF picture", kConvert},
    {"GIF89a"sv, "a GIF picture", kConvert},
    {"\x89HDF\r\n"sv, "an HDF5 file", kConvert},
    {"\x93NUMPY"sv, "a NumPy array", kConvert},
    {"SQLite format 3\0"sv, "an SQLite database", kConvert},
    {"\x7f"
     "ELF"sv,
     "a program", kConvert},
    {"{\\rtf"sv, "an RTF document", kConvert},
    {"\xd0\xcf\x11\xe0\xa1\xb1"sv, "an old Office document", kConvert},
    {"version https://git-lfs.github.com/spec/"sv, "a Git LFS pointer, not the file itself",
     "fetch the file: git lfs pull"},
}};

[[noreturn]] void refuse_bytes(const std::string& what, const std::string& where,
                               const std::string& advice) {
  throw Error(ErrorKind::unsupported, "this is " + what + ", not UTF-8 text", where, advice);
}

// A header's length in eight bytes, then JSON.
bool is_safetensors(std::string_view bytes) {
  if (bytes.size() < 10 || bytes[8] != '{') return false;
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(bytes[i]);
  return length >= 2 && length <= bytes.size() - 8;
}

// UTF-16 and UTF-32 without their mark: of what is mostly ASCII every second byte is zero, or three
// of four. iconv's name of the encoding, or null.
const char* wide_encoding(std::string_view bytes) {
  const std::string_view start = bytes.substr(0, 4096);
  std::array<size_t, 4> zeros{};
  for (size_t i = 0; i < start.size(); ++i) zeros[i % 4] += start[i] == '\0';
  const size_t even = zeros[0] + zeros[2], odd = zeros[1] + zeros[3];
  if (start.size() < 4 || std::max(even, odd) * 4 <= start.size() || even == odd) return nullptr;
  if ((even + odd) * 10 > start.size() * 7) return zeros[0] < zeros[3] ? "UTF-32LE" : "UTF-32BE";
  return even < odd ? "UTF-16LE" : "UTF-16BE";
}

// A file of data among text has control characters that texts lack; \x1b and \f occur in logs.
bool looks_binary(std::string_view bytes) {
  const std::string_view start = bytes.substr(0, 4096);
  const auto control = [](char c) { return c >= 0 && c < 9; };
  return static_cast<size_t>(std::count_if(start.begin(), start.end(), control)) * 10 >
         start.size();
}

void refuse_other_kinds(std::string_view bytes, const std::string& where) {
  for (const KnownStart& start : kStarts) {
    if (bytes.starts_with(start.bytes)) refuse_bytes(start.what, where, start.advice);
  }
  if (bytes.size() > 262 && bytes.substr(257, 5) == "ustar")
    refuse_bytes("a tar archive", where, kUnpack);
  if (is_safetensors(bytes))
    refuse_bytes("a safetensors file", where,
                 "name a text here, and the model where models are named");
  if (const char* encoding = wide_encoding(bytes)) {
    const std::string name = encoding;
    refuse_bytes(name.substr(0, 6) + " text without its mark", where,
                 "make UTF-8 of it: iconv -f " + name + " -t UTF-8 FILE > NEW");
  }
  if (looks_binary(bytes)) refuse_bytes("binary data", where, kConvert);
}

void require_utf8(std::string_view text, const std::string& where) {
  int64_t line = 1;
  for (size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 0x80) {
      line += byte == '\n';
      if (byte == 0)
        throw Error(ErrorKind::unsupported,
                    "a zero byte in line " + std::to_string(line) + ", which no text has", where,
                    "take it out: tr -d '\\000' <FILE >NEW");
      ++at;
      continue;
    }
    int bad = 0;
    const int size = utf8_sequence(text, at, bad);
    if (size <= 0) {
      std::array<char, 8> hex{};
      std::snprintf(hex.data(), hex.size(), "0x%02X", byte);
      throw Error(
          ErrorKind::failed,
          "not UTF-8: byte " + std::to_string(at) + " (" + hex.data() + ", in line " +
              std::to_string(line) + ")",
          where,
          "if the text is Latin-1, say, make UTF-8 of it: iconv -f LATIN1 -t UTF-8 FILE > NEW");
    }
    at += static_cast<size_t>(size);
  }
}

bool has_any_suffix(const Path& file, std::initializer_list<const char*> suffixes) {
  return std::ranges::any_of(suffixes,
                             [&](const char* suffix) { return has_suffix(file.native(), suffix); });
}

}  // namespace

std::string checked_text(std::string bytes, const std::string& where) {
  refuse_other_kinds(bytes, where);
  require_utf8(bytes, where);
  if (bytes.starts_with("\xef\xbb\xbf")) bytes.erase(0, 3);
  return bytes;
}

std::string read_text_file(const Path& file, int64_t max_bytes) {
  std::string text = checked_text(read_text(file, max_bytes), file.string());
  if (!has_any_suffix(file, {".html", ".htm", ".xhtml"})) refuse_page(text, file.string());
  return text;
}

const char* text_field(const Json& row) {
  for (const char* name : {"text", "page"}) {
    if (json_has(row, name)) return name;
  }
  const bool content = json_has(row, "content") && row["content"].is_string();
  return content && !json_has(row, "role") && !json_has(row, "from") ? "content" : nullptr;
}

std::string row_fields(const Json& row) {
  constexpr size_t kShown = 200;
  std::string names;
  if (row.is_object()) {
    for (const auto& [key, value] : row.items())
      names += (names.empty() ? "" : ", ") + key + (value.is_null() ? " (null)" : "");
  }
  return names.size() <= kShown ? names : names.substr(0, kShown) + "...";
}

bool is_json_lines(const Path& file) {
  if (has_suffix(file.native(), ".json"))
    throw Error(
        ErrorKind::unsupported, "a .json file is no text and has no row a line", file.string(),
        "make lines of it: jq -c '.[]' FILE > NEW.jsonl; or rename it, if it has a row a line");
  for (const char* table : {".csv", ".tsv"}) {
    if (has_suffix(file.native(), table))
      throw Error(ErrorKind::unsupported, std::string("a ") + table + " file is a table, no text",
                  file.string(),
                  "make lines of it: datasets.Dataset.from_csv(FILE).to_json(NEW.jsonl); or rename "
                  "it, if its text is meant as it stands");
  }
  return has_any_suffix(file, {".jsonl", ".ndjson", ".jsonlines", ".jl"});
}

}  // namespace qwb
