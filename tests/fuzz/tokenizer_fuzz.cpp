// libFuzzer: the input up to the first NUL is a tokenizer.json, what follows a text to encode and
// decode; and the whole is a chat template.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lib/base/error.h"
#include "lib/chat/chat_template.h"
#include "lib/tokenizer/tokenizer.h"

namespace {

void tokenize(std::string_view json, std::string_view text) {
  const auto tokenizer = qwb::Tokenizer::from_json(json, "", "fuzz");
  const auto ids = tokenizer.encode(text, true);
  qwb::StreamDecoder stream = tokenizer.stream(false);
  std::string streamed;
  for (const int32_t id : ids) streamed += stream.push(id);
  streamed += stream.finish();
  if (streamed != tokenizer.decode(ids, false)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = std::min(input.find('\0'), size);
  try {
    tokenize(input.substr(0, cut), input.substr(std::min(cut + 1, size)));
  } catch (const qwb::Error&) {
  }
  try {
    const auto messages = qwb::Json::array({{{"role", "user"}, {"content", "Hi \xc3\xa9"}}});
    (void)qwb::ChatTemplate::from_text(input, nullptr, "fuzz").render(messages, {});
  } catch (const qwb::Error&) {
  }
  return 0;
}
