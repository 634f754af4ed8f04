// Any bytes as a tokenizer.model: refused with a qwb::Error, or its normalizer and what is made of
// its pieces take any text.
#include <string>
#include <string_view>

#include "lib/base/error.h"
#include "lib/tokenizer/other_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  try {
    qwb::Json config;
    const auto made = qwb::tokenizer::tokenizer_of_sentencepiece(input, config, "fuzz");
    for (const char* text : {"", " two  words ", "e\xcc\x81\xef\xac\x81<user>\r\n\xe3\x80\x80x"}) {
      std::string normalized = text;
      bool at_start = true;
      made.normalizer->apply(normalized, at_start);
    }
  } catch (const qwb::Error&) {
    return 0;
  }
  return 0;
}
