// Methods of str, list and dict, and the text helpers behind them.
#include <unicode/locid.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <array>

#include "lib/tokenizer/jinja_builtins.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {
namespace {

using tokenizer::char_at;
using tokenizer::char_before;

// str.isspace: White_Space and the four separators U+001C to U+001F.
bool is_space(char32_t point) {
  return (point >= 0x1c && point <= 0x1f) || (tokenizer::char_class(point) & tokenizer::kRustSpace) != 0;
}

std::string through_icu(const std::string& text, bool upper) {
  icu::UnicodeString unicode = icu::UnicodeString::fromUTF8(text);
  unicode = upper ? unicode.toUpper(icu::Locale::getRoot()) : unicode.toLower(icu::Locale::getRoot());
  std::string out;
  unicode.toUTF8String(out);
  return out;
}

const std::string& text_of(const Value& value) {
  if (value.text() == nullptr) throw Failure("expected a string, not " + type_name(value));
  return *value.text();
}

Value split_by_space(std::string_view text, int64_t limit) {
  std::vector<Value> parts;
  for (;;) {
    text = text.substr(std::min(text.size(), text.size() - strip_text(text, nullptr, true, false).size()));
    if (text.empty()) break;
    size_t end = 0;
    while (end < text.size() && !is_space(char_at(text, end).point))
      end += static_cast<size_t>(char_at(text, end).size);
    if (limit == 0) {
      parts.emplace_back(strip_text(text, nullptr, false, true));
      break;
    }
    --limit;
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return Value::list(std::move(parts));
}

Value split(std::string_view text, const Arguments& arguments, bool from_right, Budget& budget) {
  const Value* separator = arguments.find(0, "sep");
  int64_t limit = arguments.integer(1, "maxsplit", -1);
  if (separator == nullptr || separator->is_none()) {
    if (from_right && limit >= 0)
      throw Failure("rsplit without a separator but with a limit is not supported");
    budget.charge(static_cast<int64_t>(text.size()) * 2);
    // strip_text copies what is left for each part; bound that.
    if (text.size() > 1 << 16) throw Failure("split() without a separator is limited to 64 KiB of text");
    return split_by_space(text, limit);
  }
  const std::string& by = text_of(*separator);
  if (by.empty()) throw Failure("empty separator");
  std::vector<Value> parts;
  while (limit != 0) {
    const size_t found = from_right ? text.rfind(by) : text.find(by);
    if (found == std::string_view::npos) break;
    parts.emplace_back(from_right ? text.substr(found + by.size()) : text.substr(0, found));
    text = from_right ? text.substr(0, found) : text.substr(found + by.size());
    if (limit > 0) --limit;
  }
  parts.emplace_back(text);
  if (from_right) std::ranges::reverse(parts);
  return Value::list(std::move(parts));
}

// startswith and endswith take one text or a tuple of them.
bool affix(const std::string& text, const Arguments& arguments, bool start) {
  const Value given = arguments.get(0, "prefix", Undefined{"prefix"});
  const auto matches = [&](const Value& part) {
    return start ? text.starts_with(text_of(part)) : text.ends_with(text_of(part));
  };
  if (const auto* list = given.items()) return std::ranges::any_of(list->items, matches);
  return matches(given);
}

Value find_text(const std::string& text, const Arguments& arguments, bool last, bool must) {
  const Value given = arguments.get(0, "sub", Undefined{"sub"});
  const std::string& part = text_of(given);
  const size_t found = last ? text.rfind(part) : text.find(part);
  if (found == std::string::npos && must) throw Failure("substring not found");
  return found == std::string::npos ? int64_t{-1} : text_length(std::string_view(text).substr(0, found));
}

int64_t count_text(std::string_view text, std::string_view part) {
  if (part.empty()) return text_length(text) + 1;
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size()))
    ++count;
  return count;
}

// isdigit and the like: not empty, and every character is of the kind.
bool every(std::string_view text, uint16_t bits) {
  const auto all = characters(text);
  return !all.empty() && std::ranges::all_of(all, [&](std::string_view c) {
    return (tokenizer::char_class(char_at(c, 0).point) & bits) != 0;
  });
}

constexpr std::array kTextMethods = {
    "strip",        "lstrip",  "rstrip",  "startswith", "endswith", "split",      "rsplit",
    "splitlines",   "upper",   "lower",   "title",      "replace",  "capitalize", "removeprefix",
    "removesuffix", "find",    "rfind",   "index",      "count",    "join",       "isdigit",
    "isnumeric",    "isalpha", "isalnum", "isspace",    "isupper",  "islower",    "format"};
constexpr std::array kDictMethods = {"get", "items", "keys", "values", "copy"};
constexpr std::array kListMethods = {"index", "count", "copy"};

Value text_test(const std::string& text, std::string_view name) {
  using tokenizer::kLetter, tokenizer::kNumber;
  if (name == "isalpha") return every(text, kLetter);
  if (name == "isalnum") return every(text, kLetter | kNumber);
  if (name == "isspace") return !text.empty() && strip_text(text, nullptr, true, false).empty();
  if (name == "isupper") return upper_text(text) == text && lower_text(text) != text;
  if (name == "islower") return lower_text(text) == text && upper_text(text) != text;
  return every(text, kNumber);
}

Value text_method(const std::string& text, std::string_view name, const Arguments& arguments,
                  Budget& budget) {
  budget.charge(static_cast<int64_t>(text.size()) + 1);
  if (name.ends_with("strip")) {
    const Value* set = arguments.find(0, "chars");
    return strip_text(text, set != nullptr && !set->is_none() ? set : nullptr, name != "rstrip",
                      name != "lstrip");
  }
  if (name == "startswith" || name == "endswith") return affix(text, arguments, name == "startswith");
  if (name == "split" || name == "rsplit") return split(text, arguments, name == "rsplit", budget);
  if (name == "upper") return upper_text(text);
  if (name == "lower") return lower_text(text);
  if (name == "title") return title_text(text);
  if (name == "capitalize") return capitalize_text(text);
  if (name == "find" || name == "rfind" || name == "index")
    return find_text(text, arguments, name == "rfind", name == "index");
  if (name.starts_with("is")) return text_test(text, name);
  if (name == "splitlines") {
    std::vector<Value> lines;
    for (const auto line : split_lines(text)) lines.emplace_back(line);
    return Value::list(std::move(lines));
  }
  const Value first = arguments.get(0, "iterable", Undefined{"argument"});
  if (name == "join") return apply_filter("join", first, Arguments{{Value(text)}, {}}, budget);
  const std::string& part = text_of(first);
  if (name == "count") return count_text(text, part);
  if (name == "removeprefix") return text.starts_with(part) ? text.substr(part.size()) : text;
  if (name == "removesuffix") return text.ends_with(part) ? text.substr(0, text.size() - part.size()) : text;
  if (name == "replace")
    return replace_text(text, part, text_of(arguments.get(1, "new", Undefined{"new"})),
                        arguments.integer(2, "count", -1), budget);
  throw Failure("the method '" + std::string(name) + "' of a string is not supported");
}

Value dict_method(const Value& object, std::string_view name, const Arguments& arguments, Budget& budget) {
  budget.charge(static_cast<int64_t>(object.dict_body()->items.size()) + 1);
  if (name == "get") {
    const Value* found = object.find(arguments.get(0, "key", Undefined{"key"}));
    return found != nullptr ? *found : arguments.get(1, "default", nullptr);
  }
  if (name == "copy") return object;
  std::vector<Value> items;
  for (const auto& [key, value] : object.dict_body()->items) {
    items.push_back(name == "keys" ? key : name == "values" ? value : Value::list({key, value}, true));
  }
  return Value::list(std::move(items));
}

Value list_method(const Value& object, std::string_view name, const Arguments& arguments, Budget& budget) {
  budget.charge(object.weight());
  if (name == "copy") return object;
  const auto& items = object.items()->items;
  const Value wanted = arguments.get(0, "value", Undefined{"value"});
  const auto same = [&](const Value& item) { return equal(item, wanted); };
  if (name == "count") return static_cast<int64_t>(std::ranges::count_if(items, same));
  const auto found = std::ranges::find_if(items, same);
  if (found == items.end()) throw Failure("the list does not hold the value");
  return static_cast<int64_t>(found - items.begin());
}

}  // namespace

std::string upper_text(const std::string& text) {
  return through_icu(text, true);
}
std::string lower_text(const std::string& text) {
  return through_icu(text, false);
}

std::string capitalize_text(const std::string& text) {
  if (text.empty()) return text;
  const auto size = static_cast<size_t>(char_at(text, 0).size);
  return upper_text(text.substr(0, size)) + lower_text(text.substr(size));
}

std::string title_text(const std::string& text) {
  std::string out;
  bool inside = false;  // of a word
  for (const auto c : characters(text)) {
    const bool letter = (tokenizer::char_class(char_at(c, 0).point) & tokenizer::kLetter) != 0;
    out += letter ? (inside ? lower_text(std::string(c)) : upper_text(std::string(c))) : std::string(c);
    inside = letter;
  }
  return out;
}

std::string strip_text(std::string_view text, const Value* set, bool left, bool right) {
  std::vector<std::string_view> wanted;
  if (set != nullptr) wanted = characters(text_of(*set));
  const auto goes = [&](std::string_view c) {
    return set != nullptr ? std::ranges::find(wanted, c) != wanted.end() : is_space(char_at(c, 0).point);
  };
  while (left && !text.empty()) {
    const auto size = static_cast<size_t>(char_at(text, 0).size);
    if (!goes(text.substr(0, size))) break;
    text.remove_prefix(size);
  }
  while (right && !text.empty()) {
    const auto size = static_cast<size_t>(char_before(text, text.size()).size);
    if (!goes(text.substr(text.size() - size))) break;
    text.remove_suffix(size);
  }
  return std::string(text);
}

std::string replace_text(std::string_view text, std::string_view from, std::string_view to, int64_t count,
                         Budget& budget) {
  std::string out;
  size_t at = 0;
  const auto put = [&](std::string_view piece) {
    budget.charge(static_cast<int64_t>(piece.size()) + 1);
    out += piece;
  };
  while (count != 0) {
    // An empty `from` matches before every character and at the end.
    const size_t found = from.empty() ? at : text.find(from, at);
    if (found == std::string_view::npos) break;
    put(text.substr(at, found - at));
    put(to);
    if (count > 0) --count;
    at = found + from.size();
    if (!from.empty()) continue;
    if (at >= text.size()) return out;
    const auto size = static_cast<size_t>(char_at(text, at).size);
    put(text.substr(at, size));
    at += size;
  }
  put(text.substr(at));
  return out;
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const auto c = char_at(text, at);
    const char32_t p = c.point;
    const size_t end = at;
    at += static_cast<size_t>(c.size);
    if (!((p >= 0xa && p <= 0xd) || (p >= 0x1c && p <= 0x1e) || p == 0x85 || p == 0x2028 || p == 0x2029))
      continue;
    if (p == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(begin, end - begin));
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

bool has_method(const Value& object, std::string_view name) {
  const auto in = [&](const auto& names) { return std::ranges::find(names, name) != names.end(); };
  if (object.text() != nullptr) return in(kTextMethods);
  if (object.dict_body() != nullptr) return in(kDictMethods);
  return object.items() != nullptr && in(kListMethods);
}

Value call_method(const Value& object, std::string_view name, const Arguments& arguments, Budget& budget) {
  if (const auto* loop = object.as<std::shared_ptr<LoopBody>>();
      loop != nullptr && name == "cycle" && !arguments.positional.empty()) {
    return arguments.positional[static_cast<size_t>((*loop)->index0) % arguments.positional.size()];
  }
  if (!has_method(object, name))
    throw Failure(type_name(object) + " has no method '" + std::string(name) + "' here");
  if (const auto* text = object.text()) return text_method(*text, name, arguments, budget);
  if (object.dict_body() != nullptr) return dict_method(object, name, arguments, budget);
  return list_method(object, name, arguments, budget);
}

}  // namespace qwb::jinja
