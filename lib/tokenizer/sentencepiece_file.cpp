#include "lib/tokenizer/sentencepiece_file.h"

#include <cmath>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/tokenizer/tokenizer_file.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

// Every cut of a piece is looked up, which takes the square of its length.
constexpr size_t kMaxPiece = 1024;

// A message of a protocol buffer, field by field.
class ProtoReader {
 public:
  ProtoReader(std::string_view bytes, const std::string& where) : rest_(bytes), where_(where) {}

  // The next field; false at the end.
  bool next() {
    if (rest_.empty()) return false;
    const uint64_t key = varint();
    field_ = key >> 3;
    switch (key & 7) {
      case 0:
        number_ = varint();
        break;
      case 1:
        take(8);
        break;
      case 2:
        text_ = take(varint());
        break;
      case 5:
        bits_ = load<uint32_t>(take(4).data());
        break;
      default:
        damaged("a field of an unknown kind");
    }
    kind_ = key & 7;
    return true;
  }
  uint64_t field() const { return field_; }
  // The value of the field that was read last. Throws `failed` if it is of another kind.
  int64_t integer() const {
    expect(0);
    return static_cast<int32_t>(number_);
  }
  bool flag() const {
    expect(0);
    return number_ != 0;
  }
  std::string_view text() const {
    expect(2);
    return text_;
  }
  float real() const {
    expect(5);
    return load<float>(&bits_);
  }

 private:
  [[noreturn]] void damaged(const std::string& what) const {
    throw Error(ErrorKind::failed, "not a SentencePiece model: " + what, where_,
                "the file is damaged; fetch it again");
  }
  void expect(uint64_t kind) const {
    if (kind_ != kind) damaged("field " + std::to_string(field_) + " is of another kind");
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    damaged("a number has no end");
  }
  std::string_view take(uint64_t count) {
    if (count > rest_.size()) damaged("it ends inside of a field");
    const std::string_view part = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return part;
  }

  std::string_view rest_;
  const std::string& where_;
  uint64_t field_ = 0, kind_ = 0, number_ = 0;
  uint32_t bits_ = 0;
  std::string_view text_;
};

class ModelReader {
 public:
  explicit ModelReader(const std::string& where) : where_(where) {}

  SentencePieceFile read(std::string_view bytes) {
    for (ProtoReader model(bytes, where_); model.next();) {
      switch (model.field()) {
        case 1:
          read_piece(model.text());
          break;
        case 2:
          read_trainer(model.text());
          break;
        case 3:
          read_normalizer(model.text());
          break;
        case 5:
          read_denormalizer(model.text());
          break;
        default:
          break;  // tests of its own, and extensions
      }
    }
    if (file_.pieces.empty()) {
      throw Error(
          ErrorKind::failed, "not a SentencePiece model: it has no pieces", where_,
          "tiktoken's files of that name are not read: take a revision with tokenizer.json");
    }
    find_unknown();
    return std::move(file_);
  }

 private:
  [[noreturn]] void unsupported(const std::string& what) const {
    throw Error(ErrorKind::unsupported, "a SentencePiece model " + what, where_);
  }
  [[noreturn]] void damaged(const std::string& what) const {
    throw Error(ErrorKind::failed, "not a SentencePiece model: " + what, where_,
                "the file is damaged; fetch it again");
  }
  // SentencePiece asks the pieces for it, not the trainer's settings.
  void find_unknown() {
    size_t found = 0;
    for (size_t id = 0; id < file_.pieces.size(); ++id) {
      const SentencePiece& piece = file_.pieces[id];
      if (piece.type == SentencePiece::unused && !file_.unigram)
        unsupported("of BPE with unused pieces");
      if (piece.type != SentencePiece::unknown) continue;
      ++found;
      file_.unk_id = static_cast<int64_t>(id);
      file_.unk_text = piece.text;
    }
    if (found != 1) damaged("it has " + std::to_string(found) + " unknown pieces");
  }
  void read_piece(std::string_view bytes) {
    SentencePiece piece;
    for (ProtoReader fields(bytes, where_); fields.next();) {
      if (fields.field() == 1) piece.text = fields.text();
      if (fields.field() == 2) piece.score = fields.real();
      if (fields.field() == 3) piece.type = fields.integer();
    }
    if (piece.text.empty() || !is_valid_utf8(piece.text)) {
      throw Error(ErrorKind::failed,
                  "piece " + std::to_string(file_.pieces.size()) + " is empty or not UTF-8",
                  where_);
    }
    const std::string number = std::to_string(file_.pieces.size());
    if (!std::isfinite(piece.score)) damaged("piece " + number + " has no number for a score");
    if (piece.type < SentencePiece::normal || piece.type > SentencePiece::byte)
      unsupported("with piece " + number + " of type " + std::to_string(piece.type));
    if (piece.text.size() > kMaxPiece)
      unsupported("with a piece of " + std::to_string(piece.text.size()) + " bytes");
    if (std::ssize(file_.pieces) >= kMaxId) unsupported("with too many pieces");
    file_.pieces.push_back(std::move(piece));
  }
  void read_trainer(std::string_view bytes) {
    for (ProtoReader fields(bytes, where_); fields.next();) {
      switch (fields.field()) {
        case 3:
          if (fields.integer() != 1 && fields.integer() != 2)
            unsupported("of words or characters (model_type " + std::to_string(fields.integer()) +
                        "); unigram and BPE are known");
          file_.unigram = fields.integer() == 1;
          break;
        case 24:
          file_.suffix = fields.flag();
          break;
        case 35:
          file_.byte_fallback = fields.flag();
          break;
        case 41:
          file_.bos_id = fields.integer();
          break;
        case 42:
          file_.eos_id = fields.integer();
          break;
        case 46:
          file_.bos_text = fields.text();
          break;
        case 47:
          file_.eos_text = fields.text();
          break;
        default:
          break;  // how it was trained
      }
    }
  }
  void read_normalizer(std::string_view bytes) {
    for (ProtoReader fields(bytes, where_); fields.next();) {
      if (fields.field() == 2) file_.charsmap = fields.text();
      if (fields.field() == 3) file_.dummy_prefix = fields.flag();
      if (fields.field() == 4) file_.remove_extra_spaces = fields.flag();
      if (fields.field() == 5) file_.escape_spaces = fields.flag();
    }
  }
  void read_denormalizer(std::string_view bytes) {
    for (ProtoReader fields(bytes, where_); fields.next();) {
      if (fields.field() == 2 && !fields.text().empty())
        unsupported("that rewrites what it decodes (denormalizer_spec)");
    }
  }

  const std::string& where_;
  SentencePieceFile file_;
};

}  // namespace

SentencePieceFile parse_sentencepiece(std::string_view bytes, const std::string& where) {
  return ModelReader(where).read(bytes);
}

}  // namespace qwb::tokenizer
