#include "lib/tokenizer/normalizer.h"

#include <unicode/normalizer2.h>
#include <unicode/uniset.h>
#include <unicode/unistr.h>

#include <functional>
#include <optional>
#include <vector>

#include "lib/base/error.h"
#include "lib/tokenizer/byte_level.h"
#include "lib/tokenizer/regex.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

// tokenizers normalizes by Unicode 9; code points that came later are left as they are, whatever
// ICU knows about them.
const icu::UnicodeSet& old_enough() {
  static const icu::UnicodeSet set = [] {
    UErrorCode status = U_ZERO_ERROR;
    icu::UnicodeSet made(icu::UnicodeString("[[:age=9.0:]]"), status);
    if (U_FAILURE(status))
      throw Error(ErrorKind::failed, std::string("ICU: ") + u_errorName(status));
    made.freeze();
    return made;
  }();
  return set;
}

class UnicodeForm : public Normalizer {
 public:
  UnicodeForm(const icu::Normalizer2* base, bool compatibility, bool composed)
      : filtered_(*base, old_enough()),
        inert_below_(compatibility ? 0x80
                     : composed    ? 0x300
                                   : 0xc0) {}
  void apply(std::string& text, bool&) const override {
    if (is_inert(text)) return;
    UErrorCode status = U_ZERO_ERROR;
    const icu::UnicodeString source =
        icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), checked_length(text)));
    const icu::UnicodeString result =
        static_cast<const icu::Normalizer2&>(filtered_).normalize(source, status);
    if (U_FAILURE(status))
      throw Error(ErrorKind::failed, std::string("ICU: ") + u_errorName(status));
    text.clear();
    result.toUTF8String(text);
  }

 private:
  // Code points below inert_below_ never change; the lead bytes 0xc3 and 0xcc begin U+00C0 and
  // U+0300.
  bool is_inert(const std::string& text) const {
    const int limit = inert_below_ == 0x80 ? 0x80 : inert_below_ == 0xc0 ? 0xc3 : 0xcc;
    for (const char c : text) {
      if (static_cast<unsigned char>(c) >= limit) return false;
    }
    return true;
  }
  static int32_t checked_length(const std::string& text) {
    if (text.size() > INT32_MAX / 20) {
      throw Error(ErrorKind::unsupported, "a text above 100 MB cannot be normalized in one piece",
                  {}, "cut the text into parts");
    }
    return static_cast<int32_t>(text.size());
  }
  icu::FilteredNormalizer2 filtered_;
  int inert_below_;
};

std::unique_ptr<Normalizer> unicode_form(const std::string& type) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* base = type == "NFC"    ? icu::Normalizer2::getNFCInstance(status)
                                 : type == "NFD"  ? icu::Normalizer2::getNFDInstance(status)
                                 : type == "NFKC" ? icu::Normalizer2::getNFKCInstance(status)
                                                  : icu::Normalizer2::getNFKDInstance(status);
  if (U_FAILURE(status)) throw Error(ErrorKind::failed, std::string("ICU: ") + u_errorName(status));
  return std::make_unique<UnicodeForm>(base, type.size() == 4, type.back() == 'C');
}

// One character at a time.
class PerCharacter : public Normalizer {
 public:
  using Function = void (*)(std::string& out, Char c, std::string_view bytes);
  explicit PerCharacter(Function function) : function_(function) {}
  void apply(std::string& text, bool& at_start) const override {
    std::string out;
    out.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
      const Char c = char_at(text, at);
      function_(out, c, std::string_view(text).substr(at, static_cast<size_t>(c.size)));
      at += static_cast<size_t>(c.size);
      if (out.empty()) at_start = false;
    }
    text.swap(out);
  }

 private:
  Function function_;
};

void put_lower(std::string& out, Char c, std::string_view) {
  append_utf8(out, c.point == 0x130 ? U'i' : lower_case(c.point));
  if (c.point == 0x130) append_utf8(out, 0x307);
}
void put_unaccented(std::string& out, Char c, std::string_view bytes) {
  if ((char_class(c.point) & kMark) == 0) out.append(bytes);
}

class StripNormalizer : public Normalizer {
 public:
  StripNormalizer(bool left, bool right) : left_(left), right_(right) {}
  void apply(std::string& text, bool& at_start) const override {
    std::string_view view = text;
    const auto is_space = [](Char c) { return (char_class(c.point) & kRustSpace) != 0; };
    while (right_ && !view.empty() && is_space(char_before(view, view.size()))) {
      view.remove_suffix(static_cast<size_t>(char_before(view, view.size()).size));
    }
    while (left_ && !view.empty() && is_space(char_at(view, 0)))
      view.remove_prefix(static_cast<size_t>(char_at(view, 0).size));
    if (!view.empty() && view.data() != text.data()) at_start = false;
    text = std::string(view);
  }

 private:
  bool left_, right_;
};

class Replace : public Normalizer {
 public:
  Replace(std::pair<std::string, bool> pattern, std::string content)
      : literal_(std::move(pattern.first)), content_(std::move(content)) {
    if (pattern.second) regex_.emplace(literal_);
  }
  void apply(std::string& text, bool& at_start) const override {
    std::string storage, out;
    const std::string_view subject = regex_ ? Regex::adapt(text, storage) : text;
    size_t kept = 0;
    bool found = false;
    for (size_t from = 0; !text.empty() && from <= text.size();) {
      const auto [begin, end] = next(subject, from);
      if (begin == std::string::npos) break;
      if (begin == end && found && end == kept) {  // empty right behind the last match
        from = end + (end < text.size() ? static_cast<size_t>(char_at(text, end).size) : 1);
        continue;
      }
      out.append(text, kept, begin - kept).append(content_);
      if (out.empty() && end > begin) at_start = false;
      kept = from = end;
      found = true;
    }
    if (!found) return;
    out.append(text, kept, std::string::npos);
    text.swap(out);
  }

 private:
  std::pair<size_t, size_t> next(std::string_view text, size_t from) const {
    if (regex_) return regex_->find(text, from);
    const size_t found = text.find(literal_, from);
    return {found, found == std::string::npos ? found : found + literal_.size()};
  }
  std::string literal_;
  std::string content_;
  std::optional<Regex> regex_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(std::string& text, bool&) const override {
    if (!text.empty()) text.insert(0, prefix_);
  }

 private:
  std::string prefix_;
};

class ByteLevelNormalizer : public Normalizer {
 public:
  void apply(std::string& text, bool&) const override { text = byte_level_encode(text); }
};

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> parts)
      : parts_(std::move(parts)) {}
  void apply(std::string& text, bool& at_start) const override {
    for (const auto& part : parts_) part->apply(text, at_start);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

}  // namespace

std::pair<std::string, bool> read_pattern(const Json& json, const std::string& where) {
  if (json_has(json, "String")) return {json_string(json, "String", where), false};
  return {json_string(json, "Regex", where), true};
}

namespace {

// tokenizers writes twice what it puts before the first character, or panics, where the pattern
// matches nothing there.
std::unique_ptr<Normalizer> make_replace(const Json& json, const std::string& where) {
  if (!json_has(json, "pattern"))
    throw Error(ErrorKind::failed, "the normalizer Replace has no pattern", where);
  const auto [pattern, is_regex] = read_pattern(json["pattern"], where);
  if (is_regex ? Regex(pattern).may_match_nothing() : pattern.empty())
    throw Error(ErrorKind::unsupported,
                "the normalizer Replace has the pattern '" + pattern + "', which can match nothing",
                where);
  return std::make_unique<Replace>(std::pair(pattern, is_regex),
                                   json_string(json, "content", where));
}

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const Json& json, const std::string& where) {
  if (json.is_null()) return nullptr;
  const std::string type = json_string(json, "type", where + ": normalizer");
  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") return unicode_form(type);
  if (type == "Lowercase") return std::make_unique<PerCharacter>(put_lower);
  if (type == "StripAccents") return std::make_unique<PerCharacter>(put_unaccented);
  if (type == "Strip") {
    return std::make_unique<StripNormalizer>(json_bool(json, "strip_left", where, true),
                                             json_bool(json, "strip_right", where, true));
  }
  if (type == "Replace") {
    return make_replace(json, where);
  }
  if (type == "Prepend") return std::make_unique<Prepend>(json_string(json, "prepend", where));
  if (type == "ByteLevel") return std::make_unique<ByteLevelNormalizer>();
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Normalizer>> parts;
    if (!json_has(json, "normalizers") || !json["normalizers"].is_array()) {
      throw Error(ErrorKind::failed, "a normalizer Sequence without a list", where);
    }
    for (const Json& part : json["normalizers"]) {
      if (auto made = make_normalizer(part, where)) parts.push_back(std::move(made));
    }
    return std::make_unique<NormalizerSequence>(std::move(parts));
  }
  throw Error(ErrorKind::unsupported, "the normalizer '" + type + "' is not known", where);
}

}  // namespace qwb::tokenizer
