// Unicode regular expressions (PCRE2 with UTF, UCP and its JIT) that see the character classes of
// Hugging Face tokenizers.
//
// Patterns are those of its engine, Oniguruma, and are translated (oniguruma.h). The two have
// different Unicode versions: code points that they classify differently (letter, number, space,
// word) are replaced, before matching, by stand-ins of equal length that PCRE2 classifies as
// Oniguruma would.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace qwb::tokenizer {

class Regex {
 public:
  // Throws unsupported or `failed`, naming the pattern and its construct that cannot be read.
  explicit Regex(const std::string& pattern);
  // The leftmost match in `text` (valid UTF-8) that begins at or after `from`: [begin, end), or
  // {npos, npos}. Look-behind sees the text before `from`. Thread-safe. Throws `failed` if the
  // pattern needs more backtracking than a pattern for text ever should.
  std::pair<size_t, size_t> find(std::string_view text, size_t from) const;

  // Whether the pattern can match without taking a character.
  bool may_match_nothing() const;

  // `text` with the stand-ins in place; `storage` holds it if anything changed. To be applied once,
  // before a run of find().
  static std::string_view adapt(std::string_view text, std::string& storage);
  // The pattern that matches `literal` and nothing else.
  static std::string escape(std::string_view literal);

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace qwb::tokenizer
