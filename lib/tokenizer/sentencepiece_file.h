// tokenizer.model of SentencePiece: the fields of its protocol buffer that decide ids. Source:
// sentencepiece_model.proto.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qwb::tokenizer {

struct SentencePiece {
  enum Type { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  std::string text;
  float score = 0;
  int64_t type = normal;
};

struct SentencePieceFile {
  std::vector<SentencePiece> pieces;  // by id
  // Of the trainer.
  bool unigram = true;  // else BPE
  bool byte_fallback = false;
  int64_t bos_id = 1, eos_id = 2;  // negative: there is none
  std::string bos_text = "<s>", eos_text = "</s>";
  // The one piece of type unknown.
  int64_t unk_id = 0;
  std::string unk_text;
  // Of the normalizer.
  std::string charsmap;  // empty: characters stay as they are
  bool dummy_prefix = true, remove_extra_spaces = true, escape_spaces = true, suffix = false;
};

// Throws `failed` for damage, `unsupported` for models of words or characters, for BPE with unused
// pieces, and other settings that are not known.
SentencePieceFile parse_sentencepiece(std::string_view bytes, const std::string& where);

}  // namespace qwb::tokenizer
