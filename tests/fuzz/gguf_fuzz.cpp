// Any bytes as a GGUF file: refused with a qwb::Error, or every tensor lies inside the file, and
// the tokenizer's keys make a tokenizer.json that is refused or works.
#include <cstdlib>

#include "formats/gguf/file.h"
#include "formats/gguf/tokenizer.h"
#include "lib/tokenizer/tokenizer.h"

namespace {

void check_tensors(const qwb::GgufHeader& header, size_t size) {
  int64_t end = 0;
  for (const auto& tensor : header.tensors) {
    const qwb::GgmlTypeInfo& info = qwb::ggml_info(tensor.type);
    const int64_t bytes = qwb::element_count(tensor.shape) / info.block * info.bytes;
    if (tensor.begin < end || tensor.begin % header.alignment != 0 || tensor.bytes != bytes)
      std::abort();
    end = tensor.begin + bytes;
    if (header.data_begin + end > static_cast<int64_t>(size)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const qwb::Bytes file(reinterpret_cast<const std::byte*>(data), size);
  try {
    const auto header = qwb::parse_gguf_header(file, "fuzz");
    check_tensors(header, size);
    const auto texts = qwb::gguf_companions(header.metadata, "fuzz");
    if (texts.empty()) return 0;
    const auto tokenizer = qwb::Tokenizer::from_json(texts.at("tokenizer.json"),
                                                     texts.at("tokenizer_config.json"), "fuzz");
    (void)tokenizer.decode(tokenizer.encode("ab a\n\xc3\xa9", true), false);
  } catch (const qwb::Error&) {
    return 0;
  }
  return 0;
}
