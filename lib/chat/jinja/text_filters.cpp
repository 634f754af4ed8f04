// Filters that make or change text.
#include <algorithm>

#include "lib/chat/jinja/filters.h"
#include "lib/chat/jinja/unicode.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {
namespace {

// Text as it is, anything else written.
Value soft(const Value& value) {
  return value.text() != nullptr ? value : Value(to_text(value));
}

Value method(const FilterCall& c, const char* name, std::vector<Value> arguments = {}) {
  return call_method(soft(c.value), name, {std::move(arguments), {}}, c.budget);
}

JsonStyle json_style(const Bound& given) {
  JsonStyle style;
  style.ensure_ascii = given.flag(0, false);
  style.sort_keys = given.flag(3, false);
  if (const Value* indent = given.find_some(1)) {
    const int64_t count = indent->text() == nullptr ? given.integer(1, 0) : 0;
    if (count > 100) throw Failure("an indent of more than 100");
    style.indent = indent->text() != nullptr
                       ? *indent->text()
                       : std::string(static_cast<size_t>(std::max<int64_t>(count, 0)), ' ');
    style.item_separator = ",";
  }
  if (const Value* separators = given.find_some(2)) {
    const auto pair = iterate(*separators);
    if (pair->items.size() != 2 || !pair->items[0].text() || !pair->items[1].text())
      throw Failure("tojson needs two strings as separators");
    style.item_separator = *pair->items[0].text();
    style.key_separator = *pair->items[1].text();
  }
  return style;
}

Value tojson(const FilterCall& c) {
  const JsonStyle style = json_style(c.given);
  const auto margin =
      style.indent ? static_cast<int64_t>(style.indent->size()) * c.value.depth() : 0;
  c.budget.charge(c.value.weight() *
                  (2 + margin +
                   static_cast<int64_t>(style.item_separator.size() + style.key_separator.size())));
  return to_json(c.value, style);
}

Value indent(const FilterCall& c) {
  std::string margin;
  if (const Value* width = c.given.find(0); width != nullptr && width->text() != nullptr) {
    margin = *width->text();
  } else {
    const int64_t count = c.given.integer(0, 4);
    if (count > 1000) throw Failure("an indent of more than 1000");
    margin.assign(static_cast<size_t>(std::max<int64_t>(count, 0)), ' ');
  }
  if (c.value.text() == nullptr) throw Failure("indent needs a string, not " + type_name(c.value));
  const bool blank = c.given.flag(2, false);
  const std::string text = *c.value.text() + "\n";
  std::string out = c.given.flag(1, false) ? margin : "";
  bool first = true;
  for (const auto line : split_lines(text)) {
    c.budget.charge(static_cast<int64_t>(line.size() + margin.size()) + 1);
    if (!first) out += '\n';
    if (!first && (blank || !line.empty())) out += margin;
    out += line;
    first = false;
  }
  return Value::text_like(std::move(out), c.value.is_markup());
}

// Words begin after white space, hyphens and opening brackets.
Value title(const FilterCall& c) {
  std::string out, word;
  const std::string text = to_text(c.value);
  const auto flush = [&] {
    if (word.empty()) return;
    const std::string_view first = part_of(word, 0, 1);
    out += upper_text(first) + lower_text(std::string_view(word).substr(first.size()));
    word.clear();
  };
  for (const auto character : characters(text)) {
    const char32_t point = tokenizer::char_at(character, 0).point;
    if (is_python_space(point) || (point < 0x80 && std::string_view("-({[<").find(static_cast<char>(
                                                       point)) != std::string_view::npos)) {
      flush();
      out += character;
    } else {
      word += character;
    }
  }
  flush();
  return out;
}

Value truncate(const FilterCall& c) {
  const int64_t length = c.given.integer(0, 255),
                leeway = c.given.find_some(3) != nullptr ? c.given.integer(3, 5) : 5;
  const Value end = c.given.get(2, "...");
  if (end.text() == nullptr) throw Failure("truncate needs a string as end");
  const int64_t kept = length - text_length(*end.text());
  if (kept < 0 || leeway < 0) throw Failure("truncate needs a length of at least its end's");
  const auto size = c.value.length();
  if (!size) throw Failure(type_name(c.value) + " has no length");
  if (*size <= length + leeway) return c.value;
  if (c.value.text() == nullptr)
    throw Unsupported("truncate of a " + type_name(c.value) + " is not supported");
  std::string_view text = part_of(*c.value.text(), 0, kept);
  if (!c.given.flag(1, false)) text = text.substr(0, text.rfind(' '));
  return arithmetic("+", Value::text_like(std::string(text), c.value.is_markup()), end, c.budget);
}

Value word_count(const FilterCall& c) {
  int64_t words = 0;
  bool inside = false;
  const std::string text = to_text(c.value);
  for (const auto character : characters(text)) {
    const char32_t point = tokenizer::char_at(character, 0).point;
    const bool word = point == '_' || is_alnum(point);
    words += word && !inside ? 1 : 0;
    inside = word;
  }
  return words;
}

std::string quoted(const Value& value, bool query) {
  std::string out;
  for (const char c : to_text(value)) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x80 && std::isalnum(byte) != 0) ||
        std::string_view("_.-~").find(c) != std::string_view::npos || (!query && c == '/')) {
      out += c;
    } else if (query && c == ' ') {
      out += '+';
    } else {
      char escaped[4];
      std::snprintf(escaped, sizeof escaped, "%%%02X", byte);
      out += escaped;
    }
  }
  return out;
}

Value url_encode(const FilterCall& c) {
  if (c.value.text() != nullptr || !is_iterable(c.value)) return quoted(c.value, false);
  std::string out;
  bool first = true;
  const auto* dict = c.value.as<Value::Dict>();
  const auto next = iterate_once(dict != nullptr ? Value(View{*dict, View::Of::items}) : c.value);
  for (Value item; next(item);) {
    const auto pair = iterate(item);
    if (pair->items.size() != 2) throw Failure("urlencode needs pairs");
    out += (first ? "" : "&") + quoted(pair->items[0], true) + "=" + quoted(pair->items[1], true);
    first = false;
  }
  return out;
}

Value xml_attributes(const FilterCall& c) {
  if (c.value.dict_body() == nullptr)
    throw Failure("xmlattr needs a dict, not " + type_name(c.value));
  std::string out;
  for (const auto& [key, value] : c.value.dict_body()->items) {
    if (value.is_none() || value.is_undefined()) continue;
    if (key.text() == nullptr || key.text()->find_first_of(" \t\n\r\f\v/>=") != std::string::npos)
      throw Failure("a bad name of an attribute for xmlattr");
    out += (out.empty() ? "" : " ") + *escape(key).text() + "=\"" + *escape(value).text() + "\"";
  }
  return (c.given.flag(0, true) && !out.empty() ? " " : "") + out;
}

Value replace(const FilterCall& c) {
  const int64_t count = c.given.find_some(2) != nullptr ? c.given.integer(2, -1) : -1;
  return Value(replace_text(to_text(c.value), to_text(c.given.at(0)), to_text(c.given.at(1)), count,
                            c.budget));
}

}  // namespace

Value apply_format_filter(const Value& value, const Arguments& a, Budget& budget) {
  if (!a.positional.empty() && !a.named.empty())
    throw Failure("format takes positions or names, not both");
  std::vector<std::pair<Value, Value>> names;
  for (const auto& [key, item] : a.named) names.emplace_back(key, item);
  const Value values =
      names.empty() ? Value::list(a.positional, true) : Value::dict(std::move(names));
  return percent_format(soft(value), values, budget);
}

const FilterTable& text_filters() {
  static const FilterTable table = {
      {"capitalize", {"", [](const FilterCall& c) { return method(c, "capitalize"); }}},
      {"center",
       {"?width",
        [](const FilterCall& c) { return method(c, "center", {c.given.get(0, int64_t{80})}); }}},
      {"e", {"/", [](const FilterCall& c) { return escape(c.value); }}},
      {"escape", {"/", [](const FilterCall& c) { return escape(c.value); }}},
      {"forceescape", {"", [](const FilterCall& c) { return escape(Value(to_text(c.value))); }}},
      {"indent", {"?width ?first ?blank", indent}},
      {"lower", {"", [](const FilterCall& c) { return method(c, "lower"); }}},
      {"replace", {"old new ?count", replace}},
      {"safe", {"", [](const FilterCall& c) { return Value::markup(to_text(c.value)); }}},
      {"string", {"", [](const FilterCall& c) { return soft(c.value); }}},
      {"striptags",
       {"",
        [](const FilterCall& c) {
          return call_method(Value::markup(to_text(c.value)), "striptags", {}, c.budget);
        }}},
      {"title", {"", title}},
      {"tojson", {"?ensure_ascii ?indent ?separators ?sort_keys", tojson}},
      {"trim",
       {"?chars",
        [](const FilterCall& c) { return method(c, "strip", {c.given.get(0, nullptr)}); }}},
      {"truncate", {"?length ?killwords ?end ?leeway", truncate}},
      {"upper", {"", [](const FilterCall& c) { return method(c, "upper"); }}},
      {"urlencode", {"", url_encode}},
      {"wordcount", {"", word_count}},
      {"xmlattr", {"?autospace", xml_attributes}},
  };
  return table;
}

}  // namespace qwb::jinja
