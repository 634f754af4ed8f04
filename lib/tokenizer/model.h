// The models of tokenizer.json: a piece of text in, token ids out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer/tokenizer_file.h"
#include "lib/tokenizer/workspace.h"

namespace qwb::tokenizer {

class Model {
 public:
  virtual ~Model() = default;
  // True if the model takes the bytes behind a last ByteLevel pre-tokenizer as they are, not
  // spelled in the byte-level alphabet.
  virtual bool takes_bytes() const { return false; }
  // True if it expects texts as bytes. Called once, before any encode().
  virtual void expect_bytes() {}
  // Appends the ids of one piece. Thread-safe if each thread has its own workspace.
  virtual void encode(std::string_view piece, Workspace& workspace,
                      std::vector<int32_t>& ids) const = 0;
};

// From the parsed file. Throws `failed` (damage) or `unsupported` (another kind of model, dropout).
std::unique_ptr<Model> make_model(const TokenizerFile& file, const std::string& where);
std::unique_ptr<Model> make_bpe(const TokenizerFile& file, const std::string& where);
std::unique_ptr<Model> make_unigram(const TokenizerFile& file, const std::string& where);

// The token of a byte in vocabularies with byte fallback: <0x0A>.
std::string byte_token(unsigned char byte);

}  // namespace qwb::tokenizer
