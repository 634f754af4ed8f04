// The program that tests/golden/compare_tokenizer.py runs.
// usage: tokenize_lines FOLDER TEXTS OUT [bare | pcre2] TEXTS: records of a u32 length and that
// many bytes. OUT: for each record a u32 count and that many i32 ids, all little-endian; with the
// special tokens unless `bare`; pcre2: bare, and without the hand-written scanners. Prints the
// seconds that encoding took and the content hash.
#include <chrono>
#include <cstdio>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/tokenizer/tokenizer.h"

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  try {
    const qwb::Path folder = argv[1];
    const std::string mode = argc > 4 ? argv[4] : "";
    const auto tokenizer = mode == "pcre2" ? qwb::Tokenizer::from_json_without_scanners(
                                                 qwb::read_text(folder / "tokenizer.json"), argv[1])
                                           : qwb::Tokenizer::load(folder);
    const auto file = qwb::MappedFile::open(argv[2]);
    const auto text = qwb::as_text(file.bytes());
    std::vector<int32_t> out;
    const auto begin = std::chrono::steady_clock::now();
    for (size_t at = 0; at + 4 <= text.size();) {
      const auto length = qwb::load<uint32_t>(text.data() + at);
      const auto ids = tokenizer.encode(text.substr(at + 4, length), mode.empty());
      out.push_back(static_cast<int32_t>(ids.size()));
      out.insert(out.end(), ids.begin(), ids.end());
      at += 4 + length;
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    qwb::write_file_atomically(argv[3],
                               {reinterpret_cast<const std::byte*>(out.data()), out.size() * 4});
    std::printf("%.6f %s\n", seconds.count(), tokenizer.content_hash().c_str());
  } catch (const qwb::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return error.exit_code();
  }
  return 0;
}
