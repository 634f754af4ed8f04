#define PCRE2_CODE_UNIT_WIDTH 8
#include "lib/tokenizer/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "lib/base/error.h"
#include "lib/tokenizer/oniguruma.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

constexpr size_t kMaxPattern = 1 << 16;
constexpr uint32_t kMatchLimit = 50'000'000;
constexpr size_t kHeapLimitKib = 256 * 1024;
constexpr size_t kJitStack = 8 << 20;

struct Freer {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

// The state that a thread needs to match. Freed when the thread ends.
struct Scratch {
  std::unique_ptr<pcre2_match_data, Freer> data{pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_match_context, Freer> context{pcre2_match_context_create(nullptr)};
  std::unique_ptr<pcre2_jit_stack, Freer> stack{
      pcre2_jit_stack_create(32 << 10, kJitStack, nullptr)};
  Scratch() {
    pcre2_set_match_limit(context.get(), kMatchLimit);
    pcre2_set_heap_limit(context.get(), kHeapLimitKib);
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

Scratch& scratch() {
  static thread_local Scratch value;
  return value;
}

constexpr uint16_t kRegexBits = kLetter | kNumber | kSpace | kWord;

std::string translate(const std::string& pattern) {
  try {
    return translate_oniguruma(pattern);
  } catch (const Error& error) {
    throw Error(error.kind(),
                "the regular expression '" + pattern.substr(0, 300) + "': " + error.what());
  }
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(const std::string& pattern) {
  if (pattern.size() > kMaxPattern)
    throw Error(ErrorKind::failed, "a regular expression of more than 64 KiB");
  const std::string translated = translate(pattern);
  auto code = std::make_shared<Code>();
  int error = 0;
  size_t offset = 0;
  code->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (code->code == nullptr) {
    std::array<unsigned char, 256> message{};
    pcre2_get_error_message(error, message.data(), message.size());
    throw Error(ErrorKind::unsupported, "the regular expression '" + pattern +
                                            "' is not understood at " + std::to_string(offset) +
                                            ": " + reinterpret_cast<const char*>(message.data()));
  }
  pcre2_jit_compile(
      code->code,
      PCRE2_JIT_COMPLETE);  // without it (rare machines) matching is slower, not different
  code_ = std::move(code);
}

std::pair<size_t, size_t> Regex::find(std::string_view text, size_t from) const {
  Scratch& s = scratch();
  const int count = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                from, PCRE2_NO_UTF_CHECK, s.data.get(), s.context.get());
  if (count == PCRE2_ERROR_NOMATCH) return {std::string_view::npos, std::string_view::npos};
  if (count < 0) {
    throw Error(ErrorKind::failed,
                "a regular expression of the tokenizer gave up on this text (PCRE2 error " +
                    std::to_string(count) + ")",
                {}, "the pattern backtracks too much; cut the text into shorter pieces");
  }
  const size_t* ends = pcre2_get_ovector_pointer(s.data.get());
  return {ends[0], std::max(ends[0], ends[1])};  // \K in a lookahead can put the end first
}

namespace {

// For each code point that PCRE2 classifies unlike tokenizers: one of the same encoded length that
// PCRE2 classifies as tokenizers does.
std::unordered_map<char32_t, char32_t> find_stand_ins() {
  std::string all;
  for (char32_t point = 0x80; point < 0x110000; ++point) {
    if (point < 0xd800 || point > 0xdfff) append_utf8(all, point);
  }
  std::vector<uint16_t> theirs(0x110000);
  const std::pair<const char*, uint16_t> probes[] = {
      {"\\p{L}+", kLetter}, {"\\p{N}+", kNumber}, {"\\s+", kSpace}, {"\\w+", kWord}};
  for (const auto& [pattern, bit] : probes) {
    const Regex regex(pattern);
    for (auto [begin, end] = regex.find(all, 0); begin != std::string_view::npos;
         std::tie(begin, end) = regex.find(all, end)) {
      for (size_t at = begin; at < end;) {
        const Char c = char_at(all, at);
        theirs[c.point] = static_cast<uint16_t>(theirs[c.point] | bit);
        at += static_cast<size_t>(c.size);
      }
    }
  }
  std::unordered_map<char32_t, char32_t> result;
  std::unordered_map<uint32_t, char32_t>
      sample;  // first agreeing code point by encoded length and class
  const auto length = [](char32_t point) { return point < 0x800 ? 2u : point < 0x10000 ? 3u : 4u; };
  for (int pass = 0; pass < 2; ++pass) {
    for (char32_t point = 0x80; point < 0x110000; ++point) {
      const uint16_t ours = char_class(point) & kRegexBits;
      const uint32_t kind = length(point) << 16 | ours;
      if (pass == 0 && theirs[point] == ours && !(point >= 0xd800 && point <= 0xdfff))
        sample.try_emplace(kind, point);
      if (pass == 1 && theirs[point] != ours && sample.contains(kind)) result[point] = sample[kind];
    }
  }
  return result;
}

}  // namespace

std::string_view Regex::adapt(std::string_view text, std::string& storage) {
  bool ascii = true;
  for (const char c : text) ascii = ascii && static_cast<signed char>(c) >= 0;
  if (ascii) return text;
  static const auto stand_ins = find_stand_ins();
  bool changed = false;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    if (c.point >= 0x80) {
      if (const auto found = stand_ins.find(c.point); found != stand_ins.end()) {
        if (!changed) storage.assign(text);
        changed = true;
        std::string bytes;
        append_utf8(bytes, found->second);
        storage.replace(at, bytes.size(), bytes);
      }
    }
    at += static_cast<size_t>(c.size);
  }
  return changed ? std::string_view(storage) : text;
}

bool Regex::may_match_nothing() const {
  uint32_t may = 0;
  pcre2_pattern_info(code_->code, PCRE2_INFO_MATCHEMPTY, &may);
  return may != 0;
}

std::string Regex::escape(std::string_view literal) {
  std::string out;
  for (const char c : literal) {
    if (static_cast<unsigned char>(c) < 0x80 && std::isalnum(static_cast<unsigned char>(c)) == 0 &&
        c != '\0')
      out.push_back('\\');
    if (c == '\0') {
      out += "\\x00";
    } else {
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace qwb::tokenizer
