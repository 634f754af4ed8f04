// The pre-tokenizers of tokenizer.json: a text is cut into the pieces that the model sees one by
// one.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "lib/base/json.h"

namespace qwb::tokenizer {

class PieceSink {
 public:
  virtual ~PieceSink() = default;
  // `at_start`: the piece begins where the whole input begins. The view lives until the call
  // returns. Empty pieces are never sent.
  virtual void piece(std::string_view text, bool at_start) = 0;
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Sends the pieces of `text` (valid UTF-8, not empty) in order. Thread-safe.
  virtual void cut(std::string_view text, bool at_start, PieceSink& sink) const = 0;
};

// From the "pre_tokenizer" value; null gives null. If the last step is ByteLevel and
// `model_takes_bytes`, that step leaves the bytes as they are and `bytes` is set. `scanners` false:
// PCRE2 even for the known patterns (for tests). Throws `unsupported` naming a type that is not
// known, `failed` on damage.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Json& json, const std::string& where,
                                                 bool model_takes_bytes, bool& bytes,
                                                 bool scanners = true);

}  // namespace qwb::tokenizer
