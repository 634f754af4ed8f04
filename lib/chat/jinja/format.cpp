// format(value, specification) of Python, and str.format as the sandbox runs it (string.Formatter).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "lib/chat/jinja/builtins.h"

namespace qwb::jinja {
namespace {

[[noreturn]] void bad_format(const std::string& specification, const Value& value) {
  throw Failure("the format '" + specification + "' does not suit " + type_name(value));
}

struct FormatSpec {
  std::string fill = " ";
  char align = 0, sign = '-', grouping = 0, type = 0;
  bool alternate = false, zero = false;
  int64_t width = 0, precision = -1;
};

bool is_align(std::string_view c) {
  return c == "<" || c == ">" || c == "=" || c == "^";
}

// [[fill]align][sign][#][0][width][grouping][.precision][type]
FormatSpec read_spec(const std::string& text, const Value& value) {
  FormatSpec spec;
  const auto all = characters(text);
  size_t at = 0;
  const auto peek = [&] { return at < all.size() ? all[at] : std::string_view(); };
  const auto number = [&](int64_t& out) {
    const size_t begin = at;
    out = 0;
    for (; peek().size() == 1 && peek()[0] >= '0' && peek()[0] <= '9'; ++at) {
      out = out * 10 + (peek()[0] - '0');
      if (out > 100000) throw Failure("a format of more than 100000 characters");
    }
    return at > begin;
  };
  if (all.size() > 1 && is_align(all[1])) {
    spec.fill = all[0];
    spec.align = all[1][0];
    at = 2;
  } else if (is_align(peek())) {
    spec.align = all[at++][0];
  }
  const bool fill_given = at == 2;
  if (peek() == "+" || peek() == "-" || peek() == " ") spec.sign = all[at++][0];
  if (peek() == "z") throw Unsupported("the format option z is not supported");
  if (peek() == "#") spec.alternate = ++at > 0;
  if (peek() == "0" && !fill_given) {
    ++at;
    spec.zero = true;
    spec.fill = "0";
    if (spec.align == 0 && value.text() == nullptr) spec.align = '=';
  }
  number(spec.width);
  if (peek() == "," || peek() == "_") spec.grouping = all[at++][0];
  if (peek() == ".") {
    ++at;
    if (!number(spec.precision)) bad_format(text, value);
  }
  if (at < all.size() && all[at].size() == 1) spec.type = all[at++][0];
  if (at < all.size()) bad_format(text, value);
  return spec;
}

std::string grouped(const std::string& digits, char mark, size_t every) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % every == 0) out += mark;
    out += digits[i];
  }
  return out;
}

// Sign and digits into the width.
std::string lay_out(const FormatSpec& spec, const std::string& sign, const std::string& body) {
  const int64_t size = text_length(sign) + text_length(body);
  if (spec.align != '=')
    return pad_text(sign + body, spec.width, spec.fill, spec.align == 0 ? '>' : spec.align);
  if (spec.grouping != 0 && spec.fill == "0" && size < spec.width)
    throw Unsupported("zeros before grouped digits are not supported");
  std::string out = sign;
  for (int64_t i = size; i < spec.width; ++i) out += spec.fill;
  return out + body;
}

std::string sign_text(const FormatSpec& spec, bool negative) {
  return negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
}

std::string format_whole(const FormatSpec& spec, int64_t value, const std::string& text) {
  const int base = spec.type == 'b'            ? 2
                   : spec.type == 'o'          ? 8
                   : (spec.type | 0x20) == 'x' ? 16
                                               : 10;
  if (spec.precision >= 0 || (spec.grouping == ',' && base != 10)) bad_format(text, value);
  std::string digits;
  const uint64_t magnitude =
      value < 0 ? -static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  for (uint64_t rest = magnitude; rest > 0; rest /= static_cast<uint64_t>(base))
    digits.insert(digits.begin(),
                  (spec.type == 'X' ? "0123456789ABCDEF"
                                    : "0123456789abcdef")[rest % static_cast<uint64_t>(base)]);
  if (digits.empty()) digits = "0";
  if (spec.grouping != 0) digits = grouped(digits, spec.grouping, base == 10 ? 3 : 4);
  std::string sign = sign_text(spec, value < 0);
  if (spec.alternate && base != 10) (sign += '0') += spec.type;
  return lay_out(spec, sign, digits);
}

std::string format_real(const FormatSpec& spec, double value, const std::string& text) {
  if (spec.alternate) throw Unsupported("the format option # of a float is not supported");
  if (spec.type == 0 && spec.precision >= 0)
    throw Unsupported("a precision without a type is not supported: " + text);
  if (spec.type == 'n') throw Unsupported("the format type n is not supported");
  if (!std::isfinite(value) && spec.type != 0)
    throw Unsupported("formatting infinity and NaN is not supported");
  std::string digits;
  if (spec.type == 0) {
    digits = to_text(std::abs(value));
  } else {
    const bool percent = spec.type == '%';
    const char pattern[] = {'%', '.', '*', percent ? 'f' : spec.type, '\0'};
    const int precision =
        spec.precision < 0 ? 6 : static_cast<int>(std::min<int64_t>(spec.precision, 1000));
    char buffer[2048];
    std::snprintf(buffer, sizeof buffer, pattern, precision, std::abs(value) * (percent ? 100 : 1));
    digits = std::string(buffer) + (percent ? "%" : "");
  }
  if (spec.grouping != 0) {
    const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
    digits = grouped(digits.substr(0, whole), spec.grouping, 3) + digits.substr(whole);
  }
  return lay_out(spec, sign_text(spec, std::signbit(value) && !std::isnan(value)), digits);
}

}  // namespace

std::string pad_text(std::string_view text, int64_t width, std::string_view fill, char side) {
  const int64_t missing = width - text_length(text);
  if (missing <= 0) return std::string(text);
  if (missing > kMaxWeight) throw Failure("a padding is too large");
  // str.center and the format ^ differ in where the odd one goes; '^' is the format's.
  const int64_t left = side == '<'   ? 0
                       : side == '>' ? missing
                       : side == '^' ? missing / 2
                                     : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (int64_t i = left; i < missing; ++i) out += fill;
  return out;
}

std::string format_value(const Value& value, const std::string& specification) {
  if (specification.empty()) return to_text(value);
  if (value.text() == nullptr && !value.is_number()) bad_format(specification, value);
  const FormatSpec spec = read_spec(specification, value);
  if (value.text() != nullptr) {
    if (value.is_markup()) throw Unsupported("formatting a Markup is not supported");
    if (spec.sign != '-' || spec.alternate || spec.align == '=' || spec.grouping != 0 ||
        (spec.type != 0 && spec.type != 's'))
      bad_format(specification, value);
    const std::string_view text = spec.precision < 0 ? std::string_view(*value.text())
                                                     : part_of(*value.text(), 0, spec.precision);
    return pad_text(text, spec.width, spec.fill, spec.align == 0 ? '<' : spec.align);
  }
  int64_t whole = 0;
  double number = 0;
  const bool is_whole = value.integer(whole) != nullptr;
  value.number(number);
  constexpr std::string_view kWhole{"\0dboxX", 6}, kReal{"\0eEfFgG%", 8};
  if (is_whole && (spec.type == 'c' || spec.type == 'n'))
    throw Unsupported("the format type is not supported: " + specification);
  if (is_whole && kWhole.find(spec.type) != std::string_view::npos)
    return format_whole(spec, whole, specification);
  if (kReal.find(spec.type) == std::string_view::npos && spec.type != 'n')
    bad_format(specification, value);
  return format_real(spec, number, specification);
}

namespace {

// One run of string.Formatter over a text.
class BraceFormatter {
 public:
  BraceFormatter(const Arguments& arguments, Budget& budget)
      : arguments_(arguments), budget_(budget) {}

  std::string run(std::string_view text, int depth) {
    if (depth < 0) throw Failure("a format is nested too deeply");
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const char c = text[at++];
      if (c != '{' && c != '}') {
        out += c;
      } else if (at < text.size() && text[at] == c) {
        out += c;
        ++at;
      } else if (c == '}') {
        throw Failure("a single '}' in a format");
      } else {
        const size_t end = field_end(text, at);
        out += field(text.substr(at, end - at), depth);
        at = end + 1;
      }
      budget_.charge(1);
    }
    return out;
  }

 private:
  static size_t field_end(std::string_view text, size_t at) {
    int open = 1;
    bool bracket = false;
    for (; at < text.size(); ++at) {
      const char c = text[at];
      if (c == '[') bracket = true;
      if (c == ']') bracket = false;
      if (!bracket && c == '{') ++open;
      if (!bracket && c == '}' && --open == 0) return at;
    }
    throw Failure("a '{' of a format is not closed");
  }

  std::string field(std::string_view field, int depth) {
    size_t end = 0;
    for (bool bracket = false; end < field.size(); ++end) {
      const char c = field[end];
      if (c == '{') throw Failure("an unexpected '{' in a format");
      bracket = bracket ? c != ']' : c == '[';
      if (!bracket && (c == ':' || c == '!')) break;
    }
    std::string_view name = field.substr(0, end), rest = field.substr(end);
    char conversion = 0;
    if (rest.starts_with('!')) {
      if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':'))
        throw Failure("a bad conversion in a format");
      conversion = rest[1];
      rest.remove_prefix(2);
    }
    if (rest.starts_with(':')) rest.remove_prefix(1);
    Value value = look_up(name);
    const std::string specification = run(rest, depth - 1);
    if (conversion == 's') value = to_text(value);
    if (conversion == 'r') value = to_repr(value);
    if (conversion == 'a') throw Unsupported("the conversion !a is not supported");
    if (conversion != 0 && conversion != 's' && conversion != 'r')
      throw Failure("a bad conversion in a format");
    std::string text = format_value(value, specification);
    budget_.charge(static_cast<int64_t>(text.size()));
    return text;
  }

  Value look_up(std::string_view name) {
    const auto digits = [](std::string_view text) {
      return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos &&
             text.size() < 10;
    };
    const size_t end = std::min(name.find_first_of(".["), name.size());
    const std::string first(name.substr(0, end));
    if (first.empty() && !name.empty())
      throw Unsupported("a format field without a name is not supported");
    Value value;
    if (first.empty() || digits(first)) {
      if ((first.empty() ? manual_ : next_ > 0) && (first.empty() || name.size() == end))
        throw Failure("a format numbers its fields and does not");
      manual_ = manual_ || (!first.empty() && name.size() == end);
      const size_t index = first.empty() ? next_++ : static_cast<size_t>(std::atoll(first.c_str()));
      if (index >= arguments_.positional.size())
        throw Failure("a format has no argument " + std::to_string(index));
      value = arguments_.positional[index];
    } else {
      const auto found =
          std::ranges::find(arguments_.named, first, &std::pair<std::string, Value>::first);
      if (found == arguments_.named.end())
        throw Failure("a format has no argument '" + first + "'");
      value = found->second;
    }
    for (name.remove_prefix(end); !name.empty();) {
      const bool item = name[0] == '[';
      const size_t close =
          item ? name.find(']') : std::min(name.find_first_of(".[", 1), name.size());
      if (close == std::string_view::npos || close < 2) throw Failure("a bad field in a format");
      const std::string key(name.substr(1, close - 1));
      value = !item ? get_attribute(value, key)
              : digits(key)
                  ? get_item(value, static_cast<int64_t>(std::atoll(key.c_str())), budget_)
                  : get_item(value, key, budget_);
      name.remove_prefix(close + (item ? 1 : 0));
      if (!name.empty() && name[0] != '.' && name[0] != '[')
        throw Failure("a bad field in a format");
    }
    return value;
  }

  const Arguments& arguments_;
  Budget& budget_;
  size_t next_ = 0;
  bool manual_ = false;
};

}  // namespace

Value brace_format(const Value& text, const Arguments& arguments, Budget& budget) {
  if (text.is_markup()) throw Unsupported("format() of a Markup is not supported");
  return BraceFormatter(arguments, budget).run(*text.text(), 2);
}

}  // namespace qwb::jinja
