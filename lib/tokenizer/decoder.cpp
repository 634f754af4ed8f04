#include "lib/tokenizer/decoder.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <optional>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/utf8.h"
#include "lib/tokenizer/byte_level.h"
#include "lib/tokenizer/normalizer.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

// Collects whole tokens for steps that cannot process parts of tokens.
class WholeToken : public DecodeStep {
 public:
  void push(std::string_view text, bool last) final {
    if (last && parts_.empty()) return token(text);
    parts_ += text;
    if (!last) return;
    const std::string whole = std::move(parts_);
    parts_.clear();
    token(whole);
  }
  void finish() override { finish_next(); }

 protected:
  virtual void token(std::string_view text) = 0;

 private:
  std::string parts_;
};

// No decoder: tokens with a space between.
class JoinBySpaces : public WholeToken {
 protected:
  void token(std::string_view text) override {
    if (!first_) send(" ", true);
    first_ = false;
    send(text, true);
  }

 private:
  bool first_ = true;
};

// Bytes of all tokens, as UTF-8; what is not valid becomes U+FFFD. Waits while a character may
// still become complete.
class ByteLevelStep : public WholeToken {
 public:
  void finish() override {
    flush(true);
    send("", true);
    finish_next();
  }

 protected:
  void token(std::string_view text) override {
    if (!byte_level_decode(text, pending_)) pending_ += text;
    flush(false);
  }

 private:
  void flush(bool end) {
    std::string out;
    size_t at = 0;
    while (at < pending_.size()) {
      int bad = 0;
      const int size = utf8_sequence(pending_, at, bad);
      if (size < 0 && !end) break;
      if (size > 0) {
        out.append(pending_, at, static_cast<size_t>(size));
      } else {
        out += kReplacement;
      }
      at += static_cast<size_t>(size > 0 ? size : bad);
    }
    pending_.erase(0, at);
    send(out, false);
  }
  std::string pending_;
};

// Runs of <0xHH> tokens are bytes: one string if the whole run is valid UTF-8, else one U+FFFD for
// each.
class ByteFallbackStep : public WholeToken {
 public:
  void finish() override {
    flush();
    finish_next();
  }

 protected:
  void token(std::string_view text) override {
    if (const auto byte = parse(text)) return run_.push_back(static_cast<char>(*byte));
    flush();
    send(text, true);
  }

 private:
  static std::optional<unsigned char> parse(std::string_view text) {
    if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return std::nullopt;
    std::string_view digits = text.substr(3, 2);
    if (digits[0] == '+') digits.remove_prefix(1);  // Rust's number parser takes a sign
    unsigned char value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
    return value;
  }
  void flush() {
    if (run_.empty()) return;
    if (is_valid_utf8(run_)) {
      send(run_, true);
    } else {
      for (size_t k = 0; k < run_.size(); ++k) send(kReplacement, true);
    }
    run_.clear();
  }
  std::string run_;
};

class FuseStep : public DecodeStep {
 public:
  void push(std::string_view text, bool) override { send(text, false); }
  void finish() override {
    send("", true);
    finish_next();
  }
};

// Removes up to `start` leading and `stop` trailing characters equal to `content` from each token.
class StripStep : public DecodeStep {
 public:
  StripStep(std::string content, int64_t start, int64_t stop)
      : content_(std::move(content)), start_(start), stop_(stop), left_(start) {}
  void push(std::string_view text, bool last) override {
    while (left_ > 0 && text.starts_with(content_)) {
      text.remove_prefix(content_.size());
      --left_;
    }
    if (!text.empty()) left_ = 0;
    if (stop_ > 0) {
      hold(text, last);
    } else {
      send(text, last);
    }
    if (last) left_ = start_;
  }
  void finish() override { finish_next(); }

 private:
  // Trailing `content`s wait until it is known whether they end the token.
  void hold(std::string_view text, bool last) {
    std::string_view body = text;
    int64_t trailing = 0;
    while (body.ends_with(content_)) {
      body.remove_suffix(content_.size());
      ++trailing;
    }
    if (!body.empty()) {
      emit_held(held_);
      held_ = 0;
      send(body, false);
    }
    held_ += trailing;
    if (!last) return;
    emit_held(held_ - std::min(held_, stop_));
    held_ = 0;
    send("", true);
  }
  void emit_held(int64_t count) {
    for (; count > 0; --count) send(content_, false);
  }
  std::string content_;
  int64_t start_, stop_, left_;
  int64_t held_ = 0;
};

class ReplaceStep : public WholeToken {
 public:
  explicit ReplaceStep(std::shared_ptr<const Normalizer> replace) : replace_(std::move(replace)) {}

 protected:
  void token(std::string_view text) override {
    std::string changed(text);
    bool at_start = false;
    replace_->apply(changed, at_start);
    send(changed, true);
  }

 private:
  std::shared_ptr<const Normalizer> replace_;
};

// The replacement character is a space again; in the first token it vanishes, unless nothing was
// prepended.
class MetaspaceStep : public WholeToken {
 public:
  MetaspaceStep(std::string replacement, bool prepended)
      : replacement_(std::move(replacement)), drop_(prepended) {}

 protected:
  void token(std::string_view text) override {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t found = std::min(text.find(replacement_, at), text.size());
      out += text.substr(at, found - at);
      if (found < text.size() && !drop_) out.push_back(' ');
      at = found < text.size() ? found + replacement_.size() : found;
    }
    drop_ = false;
    send(out, true);
  }

 private:
  std::string replacement_;
  bool drop_;
};

class Plan : public DecoderPlan {
 public:
  using Maker = std::function<std::unique_ptr<DecodeStep>()>;
  explicit Plan(std::vector<Maker> makers) : makers_(std::move(makers)) {}
  void add_steps(std::vector<std::unique_ptr<DecodeStep>>& steps) const override {
    for (const Maker& make : makers_) steps.push_back(make());
  }

 private:
  std::vector<Maker> makers_;
};

void add_makers(const Json& json, const std::string& where, std::vector<Plan::Maker>& makers);

void add_sequence(const Json& json, const std::string& where, std::vector<Plan::Maker>& makers) {
  if (!json_has(json, "decoders") || !json["decoders"].is_array())
    throw Error(ErrorKind::failed, "a decoder Sequence without a list", where);
  for (const Json& part : json["decoders"]) add_makers(part, where, makers);
}

void add_strip(const Json& json, const std::string& where, std::vector<Plan::Maker>& makers) {
  const std::string content = json_string(json, "content", where);
  const int64_t start = json_int(json, "start", where, 0), stop = json_int(json, "stop", where, 0);
  if (content.empty() || start < 0 || stop < 0)
    throw Error(ErrorKind::failed, "the decoder Strip has a bad content or count", where);
  makers.emplace_back([=] { return std::make_unique<StripStep>(content, start, stop); });
}

void add_metaspace(const Json& json, const std::string& where, std::vector<Plan::Maker>& makers) {
  const std::string replacement = json_string(json, "replacement", where, "\xe2\x96\x81");
  if (replacement.empty())
    throw Error(ErrorKind::failed, "the decoder Metaspace has an empty replacement", where);
  const bool legacy = json_bool(json, "add_prefix_space", where, true);
  const bool prepended =
      json_string(json, "prepend_scheme", where, legacy ? "always" : "never") != "never";
  makers.emplace_back([=] { return std::make_unique<MetaspaceStep>(replacement, prepended); });
}

void add_makers(const Json& json, const std::string& where, std::vector<Plan::Maker>& makers) {
  const std::string type = json_string(json, "type", where + ": decoder");
  if (type == "Sequence") return add_sequence(json, where, makers);
  if (type == "Strip") return add_strip(json, where, makers);
  if (type == "Metaspace") return add_metaspace(json, where, makers);
  if (type == "ByteLevel") {
    makers.emplace_back([] { return std::make_unique<ByteLevelStep>(); });
  } else if (type == "ByteFallback") {
    makers.emplace_back([] { return std::make_unique<ByteFallbackStep>(); });
  } else if (type == "Fuse") {
    makers.emplace_back([] { return std::make_unique<FuseStep>(); });
  } else if (type == "Replace") {
    const std::shared_ptr<const Normalizer> replace =
        make_normalizer(json, where);  // the same JSON, the same work
    makers.emplace_back([replace] { return std::make_unique<ReplaceStep>(replace); });
  } else {
    throw Error(ErrorKind::unsupported, "the decoder '" + type + "' is not known", where);
  }
}

}  // namespace

std::unique_ptr<DecoderPlan> make_decoder(const Json& json, const std::string& where) {
  std::vector<Plan::Maker> makers;
  if (json.is_null()) {
    makers.emplace_back([] { return std::make_unique<JoinBySpaces>(); });
  } else {
    add_makers(json, where + ": decoder", makers);
  }
  return std::make_unique<Plan>(std::move(makers));
}

}  // namespace qwb::tokenizer
