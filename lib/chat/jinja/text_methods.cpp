// Methods of str and Markup.
#include <algorithm>
#include <map>

#include "lib/chat/jinja/methods.h"
#include "lib/chat/jinja/unicode.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {
namespace {

using tokenizer::char_at;

// The arguments of every method below: the text, whether it is Markup, the call's arguments.
struct TextCall {
  const std::string& text;
  bool markup;
  const Bound& given;
  Budget& budget;

  Value like(std::string_view part) const { return Value::text_like(std::string(part), markup); }
  Value list(const std::vector<std::string_view>& parts) const {
    std::vector<Value> items;
    for (const auto part : parts) items.push_back(like(part));
    return Value::list(std::move(items));
  }
};

std::vector<std::string_view> split_by_space(std::string_view text, int64_t limit,
                                             bool from_right) {
  std::vector<std::string_view> parts;
  for (;;) {
    text = strip_text(text, nullptr, !from_right, from_right);
    if (text.empty()) break;
    if (limit-- == 0) {
      parts.push_back(text);  // with the white space at its other end
      break;
    }
    size_t end = from_right ? text.size() : 0;
    if (from_right) {
      for (; end > 0 && !is_python_space(tokenizer::char_before(text, end).point);)
        end -= static_cast<size_t>(tokenizer::char_before(text, end).size);
    } else {
      for (; end < text.size() && !is_python_space(char_at(text, end).point);)
        end += static_cast<size_t>(char_at(text, end).size);
    }
    parts.push_back(from_right ? text.substr(end) : text.substr(0, end));
    text = from_right ? text.substr(0, end) : text.substr(end);
  }
  if (from_right) std::ranges::reverse(parts);
  return parts;
}

std::vector<std::string_view> split_by(std::string_view text, const std::string& by, int64_t limit,
                                       bool from_right) {
  if (by.empty()) throw Failure("empty separator");
  std::vector<std::string_view> parts;
  while (limit != 0) {
    const size_t found = from_right ? text.rfind(by) : text.find(by);
    if (found == std::string_view::npos) break;
    parts.push_back(from_right ? text.substr(found + by.size()) : text.substr(0, found));
    text = from_right ? text.substr(0, found) : text.substr(found + by.size());
    if (limit > 0) --limit;
  }
  parts.push_back(text);
  if (from_right) std::ranges::reverse(parts);
  return parts;
}

Value split(const TextCall& c, bool from_right) {
  const int64_t limit = c.given.integer(1, -1);
  const bool by_space = c.given.find_some(0) == nullptr;
  const auto parts = by_space ? split_by_space(c.text, limit, from_right)
                              : split_by(c.text, c.given.text(0), limit, from_right);
  c.budget.charge(static_cast<int64_t>(parts.size()) * 16);
  return c.list(parts);
}

// The part of the text that the arguments start and end (at `i` and `i` + 1) choose; empty if start
// lies behind its end.
std::optional<std::pair<int64_t, int64_t>> chosen_part(const TextCall& c, size_t i) {
  const int64_t size = text_length(c.text);
  const auto bound = [&](size_t at, int64_t fallback) {
    const int64_t value =
        c.given.find_some(at) != nullptr ? c.given.integer(at, fallback) : fallback;
    return value < 0 ? std::max<int64_t>(value + size, 0) : value;
  };
  const int64_t begin = bound(i, 0), end = std::min(bound(i + 1, size), size);
  if (begin > end) return std::nullopt;
  return std::pair(begin, end);
}

// startswith and endswith take one text or a tuple of them.
Value affix(const TextCall& c, bool start) {
  const auto range = chosen_part(c, 1);
  const std::string_view text =
      range ? part_of(c.text, range->first, range->second) : std::string_view();
  const auto matches = [&](const Value& part) {
    if (part.text() == nullptr)
      throw Failure("startswith() and endswith() need a string or a tuple of strings");
    return range && (start ? text.starts_with(*part.text()) : text.ends_with(*part.text()));
  };
  if (const auto* list = c.given.at(0).items(); list != nullptr && list->tuple)
    return std::ranges::any_of(list->items, matches);
  return matches(c.given.at(0));
}

Value find(const TextCall& c, bool last, bool must) {
  const std::string& part = c.given.text(0);
  const auto range = chosen_part(c, 1);
  const std::string_view text =
      range ? part_of(c.text, range->first, range->second) : std::string_view();
  const size_t found = !range ? std::string_view::npos : last ? text.rfind(part) : text.find(part);
  if (found == std::string_view::npos && must) throw Failure("substring not found");
  return found == std::string_view::npos ? int64_t{-1}
                                         : range->first + text_length(text.substr(0, found));
}

Value count(const TextCall& c) {
  const std::string& part = c.given.text(0);
  const auto range = chosen_part(c, 1);
  if (!range) return int64_t{0};
  const std::string_view text = part_of(c.text, range->first, range->second);
  if (part.empty()) return text_length(text) + 1;
  int64_t found = 0;
  for (size_t at = text.find(part); at != std::string_view::npos;
       at = text.find(part, at + part.size()))
    ++found;
  return found;
}

// Not empty, and every character is of the kind.
bool every(std::string_view text, bool (*is)(char32_t)) {
  const auto all = characters(text);
  return !all.empty() &&
         std::ranges::all_of(all, [&](std::string_view c) { return is(char_at(c, 0).point); });
}

Value partition(const TextCall& c, bool last) {
  const std::string& by = c.given.text(0);
  if (by.empty()) throw Failure("empty separator");
  const std::string_view text = c.text;
  const size_t found = last ? text.rfind(by) : text.find(by);
  if (found == std::string_view::npos) {
    const Value whole = c.like(text), none = c.like("");
    return Value::list(last ? std::vector{none, none, whole} : std::vector{whole, none, none},
                       true);
  }
  return Value::list(
      {c.like(text.substr(0, found)), c.like(by), c.like(text.substr(found + by.size()))}, true);
}

Value pad(const TextCall& c, char side) {
  const std::string fill = c.given.find(1) != nullptr ? *(c.markup ? escape(c.given.at(1))
                                                          : c.given.at(1).text() ? c.given.at(1)
                                                                                 : Value(""))
                                                             .text()
                                                      : " ";
  if (text_length(fill) != 1) throw Failure("a text is padded with one character");
  const int64_t width = c.given.integer(0, 0);
  c.budget.charge(std::clamp<int64_t>(width, 0, kMaxWeight + 1));
  return c.like(pad_text(c.text, width, fill, side));
}

Value zfill(const TextCall& c) {
  const int64_t width = c.given.integer(0, 0), missing = width - text_length(c.text);
  if (missing <= 0) return c.like(c.text);
  if (missing > kMaxWeight) throw Failure("a padding is too large");
  c.budget.charge(missing);
  const bool sign = c.text.starts_with('-') || c.text.starts_with('+');
  return c.like(c.text.substr(0, sign ? 1 : 0) + std::string(static_cast<size_t>(missing), '0') +
                c.text.substr(sign ? 1 : 0));
}

Value expand_tabs(const TextCall& c) {
  const int64_t size = c.given.integer(0, 8);
  if (size > 10000) throw Failure("tabs of more than 10000 columns");
  std::string out;
  int64_t column = 0;
  for (const auto character : characters(c.text)) {
    if (character == "\t") {
      const int64_t blanks = size > 0 ? size - column % size : 0;
      c.budget.charge(blanks);
      out.append(static_cast<size_t>(blanks), ' ');
      column += blanks;
      continue;
    }
    out += character;
    column = character == "\n" || character == "\r" ? 0 : column + 1;
  }
  return c.like(out);
}

Value strip_tags(const TextCall& c) {
  std::string value;
  size_t at = 0;
  for (size_t start; (start = c.text.find('<', at)) != std::string::npos;) {
    const bool comment = c.text.compare(start, 4, "<!--") == 0;
    const size_t end = comment ? c.text.find("-->", start + 4) : c.text.find('>', start);
    if (end == std::string::npos) break;
    value.append(c.text, at, start - at);
    at = end + (comment ? 3 : 1);
  }
  value.append(c.text, at);
  std::string out;
  for (const auto word : split_by_space(value, -1, false)) (out += out.empty() ? "" : " ") += word;
  if (out.find('&') != std::string::npos)
    throw Unsupported("striptags of a text with '&' is not supported");
  return out;
}

Value replace(const TextCall& c) {
  const std::string to = c.markup ? *escape(c.given.at(1)).text() : c.given.text(1);
  return c.like(replace_text(c.text, c.given.text(0), to, c.given.integer(2, -1), c.budget));
}

Value strip(const TextCall& c, bool left, bool right) {
  return c.like(strip_text(c.text, c.given.find_some(0) != nullptr ? &c.given.text(0) : nullptr,
                           left, right));
}

Value remove_affix(const TextCall& c, bool prefix) {
  const std::string& part = c.given.text(0);
  const std::string_view text = c.text;
  if (prefix) return c.like(text.starts_with(part) ? text.substr(part.size()) : text);
  return c.like(text.ends_with(part) ? text.substr(0, text.size() - part.size()) : text);
}

struct TextMethod {
  const char* parameters;
  Value (*call)(const TextCall&);
};

const std::map<std::string_view, TextMethod>& text_methods() {
  static const std::map<std::string_view, TextMethod> table = {
      {"capitalize", {"/", [](const TextCall& c) { return c.like(capitalize_text(c.text)); }}},
      {"casefold", {"/", [](const TextCall& c) { return c.like(fold_text(c.text)); }}},
      {"center", {"width ?fillchar /", [](const TextCall& c) { return pad(c, 'c'); }}},
      {"count", {"sub ?start ?end /", count}},
      {"endswith", {"suffix ?start ?end /", [](const TextCall& c) { return affix(c, false); }}},
      {"expandtabs", {"?tabsize", expand_tabs}},
      {"find", {"sub ?start ?end /", [](const TextCall& c) { return find(c, false, false); }}},
      {"index", {"sub ?start ?end /", [](const TextCall& c) { return find(c, false, true); }}},
      {"isalnum", {"/", [](const TextCall& c) { return Value(every(c.text, is_alnum)); }}},
      {"isalpha", {"/", [](const TextCall& c) { return Value(every(c.text, is_alpha)); }}},
      {"isascii",
       {"/",
        [](const TextCall& c) {
          return Value(std::ranges::all_of(
              c.text, [](char b) { return static_cast<unsigned char>(b) < 0x80; }));
        }}},
      {"isdecimal", {"/", [](const TextCall& c) { return Value(every(c.text, is_decimal)); }}},
      {"isdigit", {"/", [](const TextCall& c) { return Value(every(c.text, is_digit)); }}},
      {"isidentifier", {"/", [](const TextCall& c) { return Value(is_identifier(c.text)); }}},
      {"islower", {"/", [](const TextCall& c) { return Value(is_lower_text(c.text)); }}},
      {"isnumeric", {"/", [](const TextCall& c) { return Value(every(c.text, is_numeric)); }}},
      {"isprintable",
       {"/",
        [](const TextCall& c) { return Value(c.text.empty() || every(c.text, is_printable)); }}},
      {"isspace", {"/", [](const TextCall& c) { return Value(every(c.text, is_python_space)); }}},
      {"istitle", {"/", [](const TextCall& c) { return Value(is_title_text(c.text)); }}},
      {"isupper", {"/", [](const TextCall& c) { return Value(is_upper_text(c.text)); }}},
      {"join",
       {"iterable /",
        [](const TextCall& c) { return join_text(c.like(c.text), c.given.at(0), c.budget); }}},
      {"ljust", {"width ?fillchar /", [](const TextCall& c) { return pad(c, '<'); }}},
      {"lower", {"/", [](const TextCall& c) { return c.like(lower_text(c.text)); }}},
      {"lstrip", {"?chars /", [](const TextCall& c) { return strip(c, true, false); }}},
      {"partition", {"sep /", [](const TextCall& c) { return partition(c, false); }}},
      {"removeprefix", {"prefix /", [](const TextCall& c) { return remove_affix(c, true); }}},
      {"removesuffix", {"suffix /", [](const TextCall& c) { return remove_affix(c, false); }}},
      {"replace", {"old new ?count /", replace}},
      {"rfind", {"sub ?start ?end /", [](const TextCall& c) { return find(c, true, false); }}},
      {"rindex", {"sub ?start ?end /", [](const TextCall& c) { return find(c, true, true); }}},
      {"rjust", {"width ?fillchar /", [](const TextCall& c) { return pad(c, '>'); }}},
      {"rpartition", {"sep /", [](const TextCall& c) { return partition(c, true); }}},
      {"rsplit", {"?sep ?maxsplit", [](const TextCall& c) { return split(c, true); }}},
      {"rstrip", {"?chars /", [](const TextCall& c) { return strip(c, false, true); }}},
      {"split", {"?sep ?maxsplit", [](const TextCall& c) { return split(c, false); }}},
      {"splitlines",
       {"?keepends",
        [](const TextCall& c) { return c.list(split_lines(c.text, c.given.flag(0, false))); }}},
      {"startswith", {"prefix ?start ?end /", [](const TextCall& c) { return affix(c, true); }}},
      {"strip", {"?chars /", [](const TextCall& c) { return strip(c, true, true); }}},
      {"striptags", {"/", strip_tags}},
      {"swapcase", {"/", [](const TextCall& c) { return c.like(swapcase_text(c.text)); }}},
      {"title", {"/", [](const TextCall& c) { return c.like(title_text(c.text)); }}},
      {"upper", {"/", [](const TextCall& c) { return c.like(upper_text(c.text)); }}},
      {"zfill", {"width /", zfill}},
  };
  return table;
}

}  // namespace

Value call_text_method(const Value& object, const std::string& name, const Arguments& arguments,
                       Budget& budget) {
  budget.charge(static_cast<int64_t>(object.text()->size()) + 1);
  if (name == "format") return brace_format(object, arguments, budget);
  if (name == "format_map") {
    const Bound given(arguments, "mapping /", name);
    if (given.at(0).dict_body() == nullptr)
      throw Unsupported("format_map() of anything but a dict is not supported");
    Arguments named;
    for (const auto& [key, value] : given.at(0).dict_body()->items) {
      if (key.text() != nullptr) named.named.emplace_back(*key.text(), value);
    }
    return brace_format(object, named, budget);
  }
  const auto found = text_methods().find(name);
  if (found == text_methods().end())
    throw Unsupported("the method " + name + "() of a string is not supported");
  const Bound given(arguments, found->second.parameters, name);
  return found->second.call({*object.text(), object.is_markup(), given, budget});
}

}  // namespace qwb::jinja
