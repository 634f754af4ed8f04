#include "lib/tokenizer/token_bytes.h"

#include <charconv>
#include <string_view>

#include "lib/tokenizer/byte_level.h"
#include "lib/tokenizer/unicode.h"

namespace qwb {
namespace {

// The text of the token behind another one, which takes upon itself what a decoder does to the
// first.
std::string text_of_token(const Tokenizer& tokenizer, int32_t id) {
  StreamDecoder decoder = tokenizer.stream(false);
  std::string before;
  for (const int32_t first : tokenizer.encode("a", false)) before += decoder.push(first);
  const std::string text = decoder.push(id);
  return text + decoder.finish();
}

}  // namespace

std::string token_bytes(const Tokenizer& tokenizer, int32_t id) {
  const std::string spelling = tokenizer.token_of(id);
  if (tokenizer.is_special(id)) return spelling;
  const std::string text = text_of_token(tokenizer, id);
  if (text.find(tokenizer::kReplacement) == std::string::npos) return text;
  // A decoder that makes U+FFFD of a token works on bytes. Two do: of the one the spelling is a
  // byte's number, of the other it stands for bytes, character by character.
  if (spelling.size() == 6 && spelling.starts_with("<0x") && spelling.back() == '>') {
    unsigned char byte = 0;
    const auto [end, error] = std::from_chars(spelling.data() + 3, spelling.data() + 5, byte, 16);
    if (error == std::errc() && end == spelling.data() + 5) return {static_cast<char>(byte)};
  }
  std::string bytes;
  return tokenizer::byte_level_decode(spelling, bytes) ? bytes : text;
}

}  // namespace qwb
