// Unicode regular expressions (PCRE2 with UTF, UCP and its JIT) that see the character classes of Hugging
// Face tokenizers.
//
// Differences between its engine (Oniguruma) and PCRE2, and what is done: PCRE2's \s counts U+180E, and the
// two have different Unicode versions. Code points that the two classify differently are replaced, before
// matching, by stand-ins of equal length that PCRE2 classifies as Oniguruma would. POSIX brackets and
// Oniguruma-only syntax (absent operators, \h as hex digit) are not translated.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace qwb::tokenizer {

class Regex {
 public:
  // Throws `failed` naming the pattern and where PCRE2 stumbled.
  explicit Regex(const std::string& pattern);
  // The leftmost match in `text` (valid UTF-8) that begins at or after `from`: [begin, end), or {npos, npos}.
  // Look-behind sees the text before `from`. Thread-safe. Throws `failed` if the pattern needs more
  // backtracking than a pattern for text ever should.
  std::pair<size_t, size_t> find(std::string_view text, size_t from) const;

  // `text` with the stand-ins in place; `storage` holds it if anything changed. To be applied once, before a
  // run of find().
  static std::string_view adapt(std::string_view text, std::string& storage);
  // The pattern that matches `literal` and nothing else.
  static std::string escape(std::string_view literal);

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace qwb::tokenizer
