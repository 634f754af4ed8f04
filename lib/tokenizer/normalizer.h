// The normalizers of tokenizer.json: text in, text out.
#pragma once

#include <memory>
#include <string>

#include "lib/base/json.h"

namespace qwb::tokenizer {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // Rewrites `text` (valid UTF-8). `at_start`, true if the text's first character is the first of
  // the whole input, is cleared when leading text is removed (Metaspace with prepend_scheme "first"
  // asks).
  virtual void apply(std::string& text, bool& at_start) const = 0;
};

// From the "normalizer" value; null gives null. Throws `unsupported` naming a type that is not
// known, `failed` on damage.
std::unique_ptr<Normalizer> make_normalizer(const Json& json, const std::string& where);

// {"String": s} or {"Regex": r}, as Replace and Split have it: returns the text, and whether it is
// a regular expression.
std::pair<std::string, bool> read_pattern(const Json& json, const std::string& where);

}  // namespace qwb::tokenizer
