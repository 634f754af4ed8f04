// How values are written: str(), repr() and json.dumps() of Python.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "lib/chat/jinja/unicode.h"
#include "lib/chat/jinja/value.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {
namespace {

// repr(float): the shortest digits that read back the same; exponents below -4 or from 16 on in
// scientific form.
std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::scientific)
                       .ptr;
  std::string text(buffer.data(), end);
  const size_t mark = text.find('e');
  const int exponent = std::atoi(text.c_str() + mark + 1);
  if (exponent < -4 || exponent >= 16) return text;
  const auto fixed_end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed)
          .ptr;
  std::string fixed(buffer.data(), fixed_end);
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

void append_hex(std::string& out, const char* prefix, uint32_t value, int digits) {
  constexpr char kDigits[] = "0123456789abcdef";
  out += prefix;
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
    out.push_back(kDigits[value >> shift & 15]);
}

std::string text_repr(const std::string& text) {
  const char quote =
      text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    const auto c = tokenizer::char_at(text, at);
    const char32_t p = c.point;
    if (p == static_cast<char32_t>(quote) || p == '\\') {
      (out += '\\') += static_cast<char>(p);
    } else if (p == '\n' || p == '\r' || p == '\t') {
      (out += '\\') += p == '\n' ? 'n' : p == '\r' ? 'r' : 't';
    } else if (is_printable(p)) {
      out.append(text, at, static_cast<size_t>(c.size));
    } else {
      append_hex(out,
                 p < 0x100     ? "\\x"
                 : p < 0x10000 ? "\\u"
                               : "\\U",
                 p,
                 p < 0x100     ? 2
                 : p < 0x10000 ? 4
                               : 8);
    }
    at += static_cast<size_t>(c.size);
  }
  return out + quote;
}

void json_string_text(std::string& out, std::string_view text, bool ascii) {
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const auto c = tokenizer::char_at(text, at);
    constexpr std::string_view kPlain = "\"\\\n\r\t\b\f", kLetters = "\"\\nrtbf";
    const size_t found =
        c.point < 0x80 ? kPlain.find(static_cast<char>(c.point)) : std::string_view::npos;
    if (found != std::string_view::npos) {
      (out += '\\') += kLetters[found];
    } else if (c.point < 0x20 || (ascii && c.point > 0x7e && c.point < 0x10000)) {
      append_hex(out, "\\u", c.point, 4);
    } else if (ascii && c.point >= 0x10000) {
      append_hex(out, "\\u", 0xd800 + ((c.point - 0x10000) >> 10), 4);
      append_hex(out, "\\u", 0xdc00 + ((c.point - 0x10000) & 0x3ff), 4);
    } else {
      out += text.substr(at, static_cast<size_t>(c.size));
    }
    at += static_cast<size_t>(c.size);
  }
  out += '"';
}

struct JsonWriter {
  const JsonStyle& style;
  std::string out;

  void line(int64_t level) {
    if (!style.indent) return;
    out += '\n';
    for (; level > 0; --level) out += *style.indent;
  }
  void key(const Value& key) {
    if (key.text() != nullptr) return json_string_text(out, *key.text(), style.ensure_ascii);
    if (!key.is_none() && !key.is_number())
      throw Failure("a dict with a key of type " + type_name(key) + " has no JSON");
    out += '"';
    write(key, 0);
    out += '"';
  }
  void list(const ListBody& body, int64_t level) {
    if (body.items.empty()) return void(out += "[]");
    out += '[';
    for (size_t i = 0; i < body.items.size(); ++i) {
      if (i > 0) out += style.item_separator;
      line(level + 1);
      write(body.items[i], level + 1);
    }
    line(level);
    out += ']';
  }
  void dict(const DictBody& body, int64_t level) {
    if (body.items.empty()) return void(out += "{}");
    std::vector<const std::pair<Value, Value>*> order;
    for (const auto& item : body.items) order.push_back(&item);
    if (style.sort_keys)
      std::ranges::stable_sort(
          order, [](const auto* a, const auto* b) { return less(a->first, b->first); });
    out += '{';
    for (size_t i = 0; i < order.size(); ++i) {
      if (i > 0) out += style.item_separator;
      line(level + 1);
      key(order[i]->first);
      out += style.key_separator;
      write(order[i]->second, level + 1);
    }
    line(level);
    out += '}';
  }
  void write(const Value& value, int64_t level) {
    if (value.text() != nullptr) return json_string_text(out, *value.text(), style.ensure_ascii);
    if (value.items() != nullptr) return list(*value.items(), level);
    if (value.dict_body() != nullptr) return dict(*value.dict_body(), level);
    if (value.is_none()) return void(out += "null");
    if (const bool* flag = value.as<bool>()) return void(out += *flag ? "true" : "false");
    if (const double* real = value.as<double>(); real != nullptr && !std::isfinite(*real)) {
      return void(out += std::isnan(*real) ? "NaN" : *real < 0 ? "-Infinity" : "Infinity");
    }
    if (!value.is_number()) throw Failure("a value of type " + type_name(value) + " has no JSON");
    out += to_text(value);
  }
};

std::string dict_text(const std::vector<std::pair<Value, Value>>& items) {
  std::string out;
  for (const auto& [key, item] : items)
    out += (out.empty() ? "" : ", ") + to_repr(key) + ": " + to_repr(item);
  return "{" + out + "}";
}

std::string view_text(const View& view) {
  std::string out;
  const auto next = iterate_once(view);
  for (Value item; next(item);) out += (out.empty() ? "" : ", ") + to_repr(item);
  return type_name(view) + "([" + out + "])";
}

std::string range_text(const Range& range) {
  const std::string ends = std::to_string(range.start) + ", " + std::to_string(range.stop);
  return "range(" + ends + (range.step == 1 ? "" : ", " + std::to_string(range.step)) + ")";
}

}  // namespace

std::string to_repr(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_markup()) return "Markup(" + text_repr(*value.text()) + ")";
  return value.text() != nullptr ? text_repr(*value.text()) : to_text(value);
}

std::string to_text(const Value& value) {
  if (value.is_undefined()) return "";
  if (value.is_none()) return "None";
  if (const bool* flag = value.as<bool>()) return *flag ? "True" : "False";
  if (const int64_t* whole = value.as<int64_t>()) return std::to_string(*whole);
  if (const double* real = value.as<double>()) return float_text(*real);
  if (const auto* text = value.text()) return *text;
  if (const auto* list = value.items()) {
    std::string out;
    for (const Value& item : list->items) out += (out.empty() ? "" : ", ") + to_repr(item);
    if (!list->tuple) return "[" + out + "]";
    return "(" + out + (list->items.size() == 1 ? ",)" : ")");
  }
  if (const auto* dict = value.dict_body()) return dict_text(dict->items);
  if (const auto* view = value.as<View>()) return view_text(*view);
  if (const auto* range = value.as<Range>()) return range_text(*range);
  if (const auto* loop = value.as<Value::Loop>()) {
    return "<LoopContext " + std::to_string((*loop)->index0 + 1) + "/" +
           std::to_string((*loop)->length()) + ">";
  }
  throw Unsupported("writing a value of type " + type_name(value) + " is not supported");
}

std::string to_json(const Value& value, const JsonStyle& style) {
  JsonWriter writer{style, {}};
  writer.write(value, 0);
  return std::move(writer.out);
}

}  // namespace qwb::jinja
