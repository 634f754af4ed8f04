// tokenizer.json of Hugging Face: text to token ids and back, with exactly the ids of the
// `tokenizers` library. Folders of before it have other files in its place: tokenizer.model of
// SentencePiece (BPE and unigram), with the ids of sentencepiece, or vocab.json with merges.txt, of
// the classes of GPT-2 and Qwen.
//
// Which special tokens encode() adds: those of the post_processor of tokenizer.json, as in
// transformers 5. (transformers 4 let add_bos_token and add_eos_token of tokenizer_config.json
// decide where they stand there.) Without a tokenizer.json those two decide.
//
// Ids of added tokens: as `tokenizers` gives them, whatever the file says: the vocabulary's if it
// has the token, else the next free one. Tokens that only tokenizer_config.json (or, without its
// added_tokens_decoder, special_tokens_map.json and added_tokens.json) names are added as
// transformers does.
//
// The text itself is tokenized as transformers 5 does: a tokenizer_class with parts of its own
// replaces those of tokenizer.json (tokenizer_class.h, with two exceptions for published models).
// split_special_tokens leaves special tokens in a text as ordinary text.
//
// Invalid UTF-8 in a text: each maximal invalid part counts as one U+FFFD, as Python's
// bytes.decode(errors="replace") reads it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/file.h"

namespace qwb {

class StreamDecoder;
namespace tokenizer {
struct ParsedTokenizer;  // lib/tokenizer/tokenizer_file.h
}

// Copies share the tables. All const methods may be called by many threads at once.
class Tokenizer {
 public:
  // From a folder's tokenizer.json, else its tokenizer.model, else vocab.json and merges.txt, and,
  // if there, tokenizer_config.json, its older side files and config.json (whose model_type can
  // decide the class). Throws not_found (naming what is there instead), `failed` (damaged) or
  // `unsupported` (naming the component that is not known; without a tokenizer.json also the class
  // that has parts of its own, or that is not named where it decides).
  static Tokenizer load(const Path& folder);
  // `config_json` may be empty. `where` names the source in errors.
  static Tokenizer from_json(std::string_view tokenizer_json, std::string_view config_json,
                             const std::string& where);
  // The same of a tokenizer.json that is parsed already.
  static Tokenizer of(tokenizer::ParsedTokenizer parsed);
  // As from_json(), with PCRE2 in place of the hand-written scanners: for tests that compare the
  // two.
  static Tokenizer from_json_without_scanners(std::string_view tokenizer_json,
                                              const std::string& where);

  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;
  // Ids that are not known are skipped, as in `tokenizers`.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;
  // Decodes token by token; see StreamDecoder.
  StreamDecoder stream(bool skip_special_tokens) const;

  // One more than the largest id. (Ids below may be unused.)
  int64_t vocab_size() const;
  // The id of a token as the vocabulary spells it ("\u0120the", "<s>").
  std::optional<int32_t> id_of(std::string_view token) const;
  // Empty for an id that is not used.
  std::string token_of(int32_t id) const;
  bool is_special(int32_t id) const;
  // The bos_token and eos_token of tokenizer_config.json, if the vocabulary has them.
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  // Whether encode(text, true) begins with special tokens (an empty text shows them).
  std::vector<int32_t> special_prefix() const;

  // XXH3-128 of everything that the ids depend on: the bytes of tokenizer.json, or of what is in
  // its place, and the special tokens that are added.
  std::string content_hash() const;
  // What a user should know about how the text is tokenized; mostly empty.
  std::string note() const;
  // The texts of bos_token, unk_token and the like, by these names: tokenizer_config.json's, or
  // those that the class brings along. They need not be in the vocabulary.
  const std::map<std::string, std::string>& named_tokens() const;

  struct Impl;  // lib/tokenizer/tokenizer_impl.h

 private:
  std::shared_ptr<const Impl> impl_;
};

// Text from ids as they come. The texts returned by push() and finish(), one after the other, are
// what decode() gives for all ids; none of them ends inside a UTF-8 character.
class StreamDecoder {
 public:
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;
  ~StreamDecoder();
  // The text that is final now and was not before.
  std::string push(int32_t id);
  // The rest. Nothing may be pushed afterwards.
  std::string finish();

 private:
  friend class Tokenizer;
  StreamDecoder(std::shared_ptr<const Tokenizer::Impl> impl, bool skip_special_tokens);
  struct State;
  std::shared_ptr<const Tokenizer::Impl> impl_;
  std::unique_ptr<State> state_;
};

}  // namespace qwb
