#include "lib/tokenizer/sentencepiece_normalizer.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/error.h"

namespace qwb::tokenizer {
namespace {

constexpr std::string_view kSpacePiece = "\xe2\x96\x81";  // U+2581

// What texts become: a trie as a double array (darts-clone's units of 32 bits), then the texts that
// its values point to, each ended by a NUL byte.
class CharacterTable {
 public:
  CharacterTable(const std::string& bytes, const std::string& where) {
    if (bytes.empty()) return;
    const size_t size = bytes.size() < 4 ? 0 : load<uint32_t>(bytes.data());
    if (size == 0 || size % 4 != 0 || size > bytes.size() - 4 || bytes.back() != '\0') {
      throw Error(ErrorKind::failed, "the table of characters (precompiled_charsmap) is damaged",
                  where, "fetch the file again");
    }
    for (size_t at = 4; at < size + 4; at += 4) units_.push_back(load<uint32_t>(&bytes[at]));
    texts_ = bytes.substr(size + 4);
  }

  // The longest beginning of the text that has an entry: its length (0: none) and what it becomes.
  size_t longest(std::string_view text, std::string_view& becomes) const {
    if (units_.empty()) return 0;
    size_t found = 0;
    uint32_t node = offset(units_[0]);
    for (size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      node ^= byte;
      if (node >= units_.size() || (units_[node] & 0x800000ffu) != byte) break;
      const bool ends = (units_[node] >> 8 & 1) != 0;
      node ^= offset(units_[node]);
      if (!ends || node >= units_.size()) continue;
      const uint32_t place = units_[node] & 0x7fffffffu;
      if (place >= texts_.size()) continue;
      found = i + 1;
      becomes = std::string_view(&texts_[place]);
    }
    return found;
  }

 private:
  static uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); }

  std::vector<uint32_t> units_;
  std::string texts_;
};

// Texts that stay as they are, longest first, by their first byte.
class KeptTexts {
 public:
  explicit KeptTexts(const std::vector<SentencePiece>& pieces) {
    for (const SentencePiece& piece : pieces) {
      if (piece.type == SentencePiece::user_defined)
        by_byte_[static_cast<unsigned char>(piece.text[0])].push_back(piece.text);
    }
    for (auto& texts : by_byte_) {
      std::stable_sort(texts.begin(), texts.end(),
                       [](const auto& a, const auto& b) { return a.size() > b.size(); });
    }
  }
  size_t longest(std::string_view text) const {
    for (const std::string& kept : by_byte_[static_cast<unsigned char>(text[0])]) {
      if (text.starts_with(kept)) return kept.size();
    }
    return 0;
  }

 private:
  std::array<std::vector<std::string>, 256> by_byte_;
};

size_t character_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  return std::min(length, text.size());
}

class SentencePieceNormalizer : public Normalizer {
 public:
  SentencePieceNormalizer(const SentencePieceFile& file, bool first_only, const std::string& where)
      : table_(file.charsmap, where),
        kept_(file.pieces),
        space_(file.escape_spaces ? kSpacePiece : " "),
        prefix_(file.dummy_prefix),
        suffix_(file.suffix),
        remove_(file.remove_extra_spaces),
        first_only_(first_only) {}

  void apply(std::string& text, bool& at_start) const override {
    std::string_view rest = text;
    std::string_view part;
    while (remove_ && !rest.empty()) {
      const size_t length = next(rest, part);
      if (part != " ") break;
      rest.remove_prefix(length);
    }
    std::string out;
    if (!rest.empty()) {
      const bool spaced = prefix_ && (at_start || !first_only_);
      if (spaced && !suffix_) out += space_;
      rewrite(rest, out);
      if (spaced && suffix_) out += space_;
    }
    text = std::move(out);
  }

 private:
  void rewrite(std::string_view rest, std::string& out) const {
    bool after_space = remove_;
    std::string_view part;
    while (!rest.empty()) {
      const size_t length = next(rest, part);
      while (after_space && part.starts_with(' ')) part.remove_prefix(1);
      for (const char c : part) {
        if (c == ' ') {
          out += space_;
        } else {
          out += c;
        }
      }
      if (!part.empty()) after_space = remove_ && part.ends_with(' ');
      rest.remove_prefix(length);
    }
    while (remove_ && out.ends_with(space_)) out.resize(out.size() - space_.size());
  }
  // The bytes that the text's first characters take, and what they become.
  size_t next(std::string_view text, std::string_view& becomes) const {
    if (const size_t kept = kept_.longest(text)) {
      becomes = text.substr(0, kept);
      return kept;
    }
    if (const size_t found = table_.longest(text, becomes)) return found;
    const size_t length = character_length(text);
    becomes = text.substr(0, length);
    return length;
  }

  CharacterTable table_;
  KeptTexts kept_;
  std::string space_;
  bool prefix_, suffix_, remove_, first_only_;
};

}  // namespace

std::unique_ptr<Normalizer> make_sentencepiece_normalizer(const SentencePieceFile& file,
                                                          bool first_only,
                                                          const std::string& where) {
  return std::make_unique<SentencePieceNormalizer>(file, first_only, where);
}

}  // namespace qwb::tokenizer
