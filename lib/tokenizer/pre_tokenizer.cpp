#include "lib/tokenizer/pre_tokenizer.h"

#include <optional>
#include <vector>

#include "lib/base/error.h"
#include "lib/tokenizer/byte_level.h"
#include "lib/tokenizer/normalizer.h"
#include "lib/tokenizer/regex.h"
#include "lib/tokenizer/scanner.h"
#include "lib/tokenizer/split.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

class KnownSplit : public PreTokenizer {
 public:
  explicit KnownSplit(KnownPattern pattern) : pattern_(pattern) {}
  void cut(std::string_view text, bool at_start, PieceSink& sink) const override {
    for (size_t at = 0; at < text.size();) {
      const size_t end = scan_piece(pattern_, text, at);
      sink.piece(text.substr(at, end - at), at_start && at == 0);
      at = end;
    }
  }

 private:
  KnownPattern pattern_;
};

class RegexSplit : public PreTokenizer {
 public:
  RegexSplit(const std::string& pattern, SplitBehavior behavior, bool invert)
      : regex_(pattern), behavior_(behavior), invert_(invert) {}
  void cut(std::string_view text, bool at_start, PieceSink& sink) const override {
    auto spans = match_spans(text, regex_, invert_);
    send_spans(text, at_start, spans, behavior_, sink);
  }

 private:
  Regex regex_;
  SplitBehavior behavior_;
  bool invert_;
};

class ClassSplit : public PreTokenizer {
 public:
  ClassSplit(uint16_t bits, SplitBehavior behavior) : bits_(bits), behavior_(behavior) {}
  void cut(std::string_view text, bool at_start, PieceSink& sink) const override {
    auto spans = class_spans(text, bits_);
    send_spans(text, at_start, spans, behavior_, sink);
  }

 private:
  uint16_t bits_;
  SplitBehavior behavior_;
};

// \w+|[^\w\s]+ with the white space removed.
class WhitespaceWords : public PreTokenizer {
 public:
  void cut(std::string_view text, bool at_start, PieceSink& sink) const override {
    for (size_t at = 0; at < text.size();) {
      const uint16_t kind = char_class(char_at(text, at).point) & (kRustWord | kRustSpace);
      size_t end = at;
      while (end < text.size() &&
             (char_class(char_at(text, end).point) & (kRustWord | kRustSpace)) == kind) {
        end += static_cast<size_t>(char_at(text, end).size);
      }
      if ((kind & kRustSpace) == 0) sink.piece(text.substr(at, end - at), at_start && at == 0);
      at = end;
    }
  }
};

class Metaspace : public PreTokenizer {
 public:
  enum class Prepend { always, first, never };
  Metaspace(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split) {}
  void cut(std::string_view text, bool at_start, PieceSink& sink) const override {
    std::string marked;
    marked.reserve(text.size() + text.size() / 2);
    for (size_t at = 0; at < text.size();) {
      const size_t space = std::min(text.find(' ', at), text.size());
      marked.append(text.substr(at, space - at));
      if (space < text.size()) marked += replacement_;
      at = space + 1;
    }
    const bool wanted = prepend_ == Prepend::always || (prepend_ == Prepend::first && at_start);
    if (wanted && !marked.starts_with(replacement_)) marked.insert(0, replacement_);
    if (!split_) return sink.piece(marked, at_start);
    // MergedWithNext on the replacement: each piece but perhaps the first begins with one.
    size_t begin = 0;
    for (size_t at = marked.find(replacement_, replacement_.size()); begin < marked.size();
         at = marked.find(replacement_, at + 1)) {
      if (begin == 0 && !marked.starts_with(replacement_)) at = marked.find(replacement_);
      const size_t end = std::min(at, marked.size());
      sink.piece(std::string_view(marked).substr(begin, end - begin), at_start && begin == 0);
      begin = end;
    }
  }

 private:
  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

class ByteLevel : public PreTokenizer {
 public:
  // `spell`: write each byte in the byte-level alphabet; without it the pieces are the bytes
  // themselves.
  ByteLevel(bool prefix_space, std::unique_ptr<PreTokenizer> words, bool spell)
      : prefix_space_(prefix_space), words_(std::move(words)), spell_(spell) {}
  void cut(std::string_view text, bool at_start, PieceSink& sink) const override {
    std::string spaced;
    if (prefix_space_ && !text.starts_with(' ')) {
      spaced.append(" ").append(text);
      text = spaced;
    }
    Speller speller(sink);
    PieceSink& target = spell_ ? speller : sink;
    if (words_ == nullptr) return target.piece(text, at_start);
    words_->cut(text, at_start, target);
  }

 private:
  struct Speller : PieceSink {
    explicit Speller(PieceSink& sink) : next(sink) {}
    void piece(std::string_view text, bool at_start) override {
      next.piece(byte_level_encode(text), at_start);
    }
    PieceSink& next;
  };
  bool prefix_space_;
  std::unique_ptr<PreTokenizer> words_;
  bool spell_;
};

class Chain : public PreTokenizer {
 public:
  explicit Chain(std::vector<std::unique_ptr<PreTokenizer>> steps) : steps_(std::move(steps)) {}
  void cut(std::string_view text, bool at_start, PieceSink& sink) const override {
    run(0, text, at_start, sink);
  }

 private:
  struct Step : PieceSink {
    Step(const Chain& owner, size_t index, PieceSink& last)
        : chain(owner), next(index), sink(last) {}
    void piece(std::string_view text, bool at_start) override {
      chain.run(next, text, at_start, sink);
    }
    const Chain& chain;
    size_t next;
    PieceSink& sink;
  };
  void run(size_t index, std::string_view text, bool at_start, PieceSink& sink) const {
    if (index == steps_.size()) return sink.piece(text, at_start);
    if (index + 1 == steps_.size()) return steps_[index]->cut(text, at_start, sink);
    Step step(*this, index + 1, sink);
    steps_[index]->cut(text, at_start, step);
  }
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

struct Context {
  const std::string& where;
  bool scanners;
};

std::unique_ptr<PreTokenizer> pattern_split(const std::string& pattern, SplitBehavior behavior,
                                            bool invert, const Context& context) {
  const auto known = context.scanners ? known_pattern(pattern) : std::nullopt;
  // The known patterns match every character, so that inverted, Isolated pieces are the same.
  if (known && behavior == SplitBehavior::isolated) return std::make_unique<KnownSplit>(*known);
  return std::make_unique<RegexSplit>(pattern, behavior, invert);
}

std::unique_ptr<PreTokenizer> make_metaspace(const Json& json, const Context& context) {
  const std::string replacement = json_string(json, "replacement", context.where, "\xe2\x96\x81");
  if (replacement.empty() ||
      static_cast<size_t>(char_at(replacement, 0).size) != replacement.size()) {
    throw Error(ErrorKind::failed, "the Metaspace replacement must be one character",
                context.where);
  }
  const std::string fallback =
      json_bool(json, "add_prefix_space", context.where, true) ? "always" : "never";
  const std::string scheme = json_string(json, "prepend_scheme", context.where, fallback);
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    throw Error(ErrorKind::unsupported,
                "the Metaspace prepend_scheme '" + scheme + "' is not known", context.where);
  }
  const auto prepend = scheme == "always"  ? Metaspace::Prepend::always
                       : scheme == "first" ? Metaspace::Prepend::first
                                           : Metaspace::Prepend::never;
  return std::make_unique<Metaspace>(replacement, prepend,
                                     json_bool(json, "split", context.where, true));
}

std::unique_ptr<PreTokenizer> make_split(const Json& json, const Context& context) {
  if (!json_has(json, "pattern"))
    throw Error(ErrorKind::failed, "the pre-tokenizer Split has no pattern", context.where);
  auto [pattern, is_regex] = read_pattern(json["pattern"], context.where);
  const auto behavior = read_behavior(json_string(json, "behavior", context.where), context.where);
  if (!is_regex) pattern = Regex::escape(pattern);
  return pattern_split(pattern, behavior, json_bool(json, "invert", context.where, false), context);
}

// One step that is not a Sequence.
std::unique_ptr<PreTokenizer> make_step(const Json& json, const Context& context,
                                        bool spell_bytes) {
  const std::string type = json_string(json, "type", context.where + ": pre_tokenizer");
  if (type == "ByteLevel") {
    std::unique_ptr<PreTokenizer> words;
    if (json_bool(json, "use_regex", context.where, true)) {
      words = pattern_split(std::string(kGpt2Pattern), SplitBehavior::isolated, false, context);
    }
    return std::make_unique<ByteLevel>(json_bool(json, "add_prefix_space", context.where, true),
                                       std::move(words), spell_bytes);
  }
  if (type == "Split") return make_split(json, context);
  if (type == "Metaspace") return make_metaspace(json, context);
  if (type == "Whitespace") return std::make_unique<WhitespaceWords>();
  if (type == "WhitespaceSplit")
    return std::make_unique<ClassSplit>(kRustSpace, SplitBehavior::removed);
  if (type == "Digits") {
    const bool each = json_bool(json, "individual_digits", context.where, false);
    return std::make_unique<ClassSplit>(kRustNumeric,
                                        each ? SplitBehavior::isolated : SplitBehavior::contiguous);
  }
  if (type == "Punctuation") {
    return std::make_unique<ClassSplit>(
        kPunctuation,
        read_behavior(json_string(json, "behavior", context.where, "Isolated"), context.where));
  }
  throw Error(ErrorKind::unsupported, "the pre-tokenizer '" + type + "' is not known",
              context.where);
}

void flatten(const Json& json, const std::string& where, std::vector<const Json*>& steps) {
  if (json_string(json, "type", where + ": pre_tokenizer") != "Sequence")
    return steps.push_back(&json);
  if (!json_has(json, "pretokenizers") || !json["pretokenizers"].is_array()) {
    throw Error(ErrorKind::failed, "a pre-tokenizer Sequence without a list", where);
  }
  for (const Json& step : json["pretokenizers"]) flatten(step, where, steps);
}

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Json& json, const std::string& where,
                                                 bool model_takes_bytes, bool& bytes,
                                                 bool scanners) {
  bytes = false;
  if (json.is_null()) return nullptr;
  const Context context{where, scanners};
  std::vector<const Json*> steps;
  flatten(json, where, steps);
  std::vector<std::unique_ptr<PreTokenizer>> made;
  for (const Json* step : steps) {
    bytes = step == steps.back() && model_takes_bytes &&
            json_string(*step, "type", where) == "ByteLevel";
    made.push_back(make_step(*step, context, !bytes));
  }
  if (made.size() == 1) return std::move(made[0]);
  return std::make_unique<Chain>(std::move(made));
}

}  // namespace qwb::tokenizer
