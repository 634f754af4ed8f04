// Byte-pair encoding, over characters (SentencePiece style, with byte fallback) or over bytes
// (GPT-2 style).
#include <algorithm>
#include <array>
#include <optional>
#include <unordered_set>

#include "lib/base/error.h"
#include "lib/tokenizer/byte_level.h"
#include "lib/tokenizer/merges.h"
#include "lib/tokenizer/model.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

constexpr std::string_view kMetaspace = "\xe2\x96\x81";  // U+2581

struct Options {
  std::string prefix, suffix;
  bool byte_fallback = false, fuse_unk = false, ignore_merges = false;
  std::optional<std::string> unk_token;
};

class Bpe : public Model {
 public:
  Bpe(const TokenizerFile& file, Options options, const std::string& where);
  bool takes_bytes() const override { return all_bytes_; }
  void expect_bytes() override { bytes_ = true; }
  void encode(std::string_view piece, Workspace& workspace,
              std::vector<int32_t>& ids) const override;

 private:
  void read_merges(const TokenizerFile& file, const std::string& where);
  void read_bytes(const TokenizerFile& file);
  void encode_word(std::string_view word, Workspace& workspace, std::vector<int32_t>& ids) const;
  void to_symbols(std::string_view word, std::vector<int32_t>& symbols) const;
  bool add_bytes(std::string_view text, std::vector<int32_t>& symbols) const;

  Options options_;
  StringTable vocab_;  // token text -> id
  StringTable raw_;    // the bytes that a byte-level token stands for -> id
  Merges merges_;
  std::array<int32_t, 256> byte_ids_{};      // of the single-byte tokens of a byte-level vocabulary
  std::array<int32_t, 256> fallback_ids_{};  // of <0x00>..<0xFF>
  int32_t unk_ = -1;
  bool all_bytes_ = true, bytes_ = false;
  // Where no merge rule joins a character with a following U+2581, a text may be cut between the
  // two and each part encoded by itself: this is what makes the cache useful for
  // SentencePiece-style models, whose pieces are whole texts.
  bool cut_at_metaspace_ = false;
  std::unordered_set<char32_t> joins_metaspace_;
};

Bpe::Bpe(const TokenizerFile& file, Options options, const std::string& where)
    : options_(std::move(options)) {
  for (const auto& [token, id] : file.vocab) vocab_.set(token, id);
  for (int b = 0; b < 256; ++b)
    fallback_ids_[b] = vocab_.get(byte_token(static_cast<unsigned char>(b)));
  if (options_.unk_token) unk_ = vocab_.get(*options_.unk_token);
  read_bytes(file);
  read_merges(file, where);
}

void Bpe::read_bytes(const TokenizerFile& file) {
  all_bytes_ = options_.prefix.empty() && options_.suffix.empty();
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    byte_ids_[b] = vocab_.get(byte_level_encode({&byte, 1}));
    all_bytes_ = all_bytes_ && byte_ids_[b] >= 0;
  }
  if (!all_bytes_ || !options_.ignore_merges) return;
  std::string bytes;
  for (const auto& [token, id] : file.vocab) {
    bytes.clear();
    if (byte_level_decode(token, bytes)) raw_.set(bytes, id);
  }
}

namespace {

// Where the groups of merges of equal rank begin ("equal_merges", which tokenizers read from GGUF
// files may have: pieces of equal score); empty: every merge has a rank of its own.
std::vector<uint32_t> rank_groups(const TokenizerFile& file, const std::string& where) {
  const Json& model = file.root["model"];
  if (!json_has(model, "equal_merges")) return {};
  std::vector<uint32_t> begins;
  for (const Json& begin : model["equal_merges"]) {
    if (!begin.is_number_unsigned() || begin > UINT32_MAX ||
        (begins.empty() ? begin != 0 : begin <= begins.back()))
      throw Error(ErrorKind::failed, "'equal_merges' must be rising places, from 0 on", where);
    begins.push_back(begin.get<uint32_t>());
  }
  return begins;
}

}  // namespace

void Bpe::read_merges(const TokenizerFile& file, const std::string& where) {
  merges_.reserve(file.merges.size());
  cut_at_metaspace_ =
      vocab_.get(kMetaspace) >= 0 && options_.prefix.empty() && options_.suffix.empty();
  uint32_t rank = 0, groups = 0;
  const auto begins = rank_groups(file, where);
  std::string joined;
  for (const auto& [left, right] : file.merges) {
    const int32_t a = vocab_.get(left), b = vocab_.get(right);
    if (a < 0 || b < 0)
      throw Error(ErrorKind::failed,
                  "the merge of '" + left + "' and '" + right + "' names an unknown token", where);
    if (right.size() < options_.prefix.size())
      throw Error(ErrorKind::failed, "the merge token '" + right + "' lacks the prefix", where);
    joined.assign(left).append(right, options_.prefix.size(), std::string::npos);
    const int32_t merged = vocab_.get(joined);
    if (merged < 0)
      throw Error(ErrorKind::failed,
                  "the merge of '" + left + "' and '" + right + "' makes an unknown token", where);
    while (groups + 1 < begins.size() && begins[groups + 1] <= rank) ++groups;
    merges_.set(a, b, {begins.empty() ? rank : groups, merged});
    ++rank;
    // Symbols that differ from the characters that they show would invalidate the argument about
    // neighbours.
    const auto special = [&](int32_t id) {
      return id == unk_ || (options_.byte_fallback && std::ranges::count(fallback_ids_, id) > 0);
    };
    if (left.empty() || right.empty() || special(a) || special(b)) {
      cut_at_metaspace_ = false;
    } else if (right.starts_with(kMetaspace)) {
      joins_metaspace_.insert(char_before(left, left.size()).point);
    }
  }
}

void Bpe::encode(std::string_view piece, Workspace& workspace, std::vector<int32_t>& ids) const {
  if (bytes_ || !cut_at_metaspace_ || (options_.ignore_merges && vocab_.get(piece) >= 0))
    return encode_word(piece, workspace, ids);
  size_t begin = 0;
  for (size_t at = piece.find(kMetaspace, 1); at < piece.size();
       at = piece.find(kMetaspace, at + 1)) {
    if (joins_metaspace_.contains(char_before(piece, at).point)) continue;
    encode_word(piece.substr(begin, at - begin), workspace, ids);
    begin = at;
  }
  encode_word(piece.substr(begin), workspace, ids);
}

void Bpe::encode_word(std::string_view word, Workspace& workspace,
                      std::vector<int32_t>& ids) const {
  bool hit = false;
  WordCache::Slot* slot = workspace.cache.find(word, hit);
  if (hit) {
    ids.insert(ids.end(), slot->ids, slot->ids + slot->count);
    return;
  }
  auto& symbols = workspace.symbols;
  symbols.clear();
  const int32_t whole = !options_.ignore_merges ? -1 : bytes_ ? raw_.get(word) : vocab_.get(word);
  if (whole >= 0) {
    symbols.push_back(whole);
  } else {
    to_symbols(word, symbols);
    merges_.apply(workspace);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.end());
  if (slot != nullptr) WordCache::put(*slot, word, symbols);
}

bool Bpe::add_bytes(std::string_view text, std::vector<int32_t>& symbols) const {
  for (const char c : text) {
    if (fallback_ids_[static_cast<unsigned char>(c)] < 0) return false;
  }
  for (const char c : text) symbols.push_back(fallback_ids_[static_cast<unsigned char>(c)]);
  return true;
}

void Bpe::to_symbols(std::string_view word, std::vector<int32_t>& symbols) const {
  if (bytes_) {
    for (const char c : word) symbols.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    return;
  }
  bool unknown = false;  // an unknown character waits; tokenizers writes it only before the next
                         // known one, so after any fallback bytes
  std::string spelled;
  for (size_t at = 0; at < word.size();) {
    const auto size = static_cast<size_t>(char_at(word, at).size);
    std::string_view text = word.substr(at, size);
    if (!options_.prefix.empty() || !options_.suffix.empty()) {
      spelled = at > 0 ? options_.prefix : "";
      spelled += text;
      if (at + size == word.size()) spelled += options_.suffix;
      text = spelled;
    }
    at += size;
    const int32_t id = vocab_.get(text);
    if (id >= 0) {
      if (unknown) symbols.push_back(unk_);
      unknown = false;
      symbols.push_back(id);
    } else if (!(options_.byte_fallback && add_bytes(text, symbols)) && options_.unk_token) {
      if (unk_ < 0)
        throw Error(ErrorKind::failed,
                    "the unknown token '" + *options_.unk_token + "' is not in the vocabulary");
      if (unknown && !options_.fuse_unk) symbols.push_back(unk_);
      unknown = true;
    }
  }
  if (unknown) symbols.push_back(unk_);
}

}  // namespace

std::unique_ptr<Model> make_bpe(const TokenizerFile& file, const std::string& where) {
  const Json& model = file.root["model"];
  const std::string inside = where + ": model";
  if (file.scored || json_has(model, "vocab") != true)
    throw Error(ErrorKind::failed, "a BPE model needs a 'vocab' object", where);
  if (json_number(model, "dropout", inside, 0) != 0) {
    throw Error(ErrorKind::unsupported, "the BPE model has dropout, which makes ids random", where,
                "set dropout to null");
  }
  Options options;
  options.prefix = json_string(model, "continuing_subword_prefix", inside, "");
  options.suffix = json_string(model, "end_of_word_suffix", inside, "");
  options.byte_fallback = json_bool(model, "byte_fallback", inside, false);
  options.fuse_unk = json_bool(model, "fuse_unk", inside, false);
  options.ignore_merges = json_bool(model, "ignore_merges", inside, false);
  if (json_has(model, "unk_token")) options.unk_token = json_string(model, "unk_token", inside);
  return std::make_unique<Bpe>(file, std::move(options), where);
}

}  // namespace qwb::tokenizer
