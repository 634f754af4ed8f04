// `text % values` of Python.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "lib/chat/jinja/builtins.h"

namespace qwb::jinja {
namespace {

struct Conversion {
  bool left = false, plus = false, blank = false, zero = false;
  int64_t width = 0, precision = -1;
  char type = 0;
};

class PercentFormatter {
 public:
  PercentFormatter(std::string_view text, const Value& values, Budget& budget)
      : text_(text), values_(values), budget_(budget) {}

  std::string run() {
    while (at_ < text_.size()) {
      budget_.charge(1);
      if (text_[at_] != '%') {
        out_ += text_[at_++];
        continue;
      }
      ++at_;
      if (peek() == '%') {
        out_ += text_[at_++];
        continue;
      }
      conversion();
    }
    const bool tuple = values_.items() != nullptr && values_.items()->tuple;
    const bool mapping = !tuple && (values_.items() || values_.dict_body() || values_.as<Range>() ||
                                    values_.is_undefined());
    if (!mapping && used_ < (tuple ? values_.items()->items.size() : 1))
      throw Failure("not all values of a '%' format are used");
    return std::move(out_);
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  const Value& next_value() {
    if (const auto* list = values_.items(); list != nullptr && list->tuple) {
      if (used_ >= list->items.size()) throw Failure("not enough values for a '%' format");
      return list->items[used_++];
    }
    if (used_++ > 0) throw Failure("not enough values for a '%' format");
    return values_;
  }

  int64_t number() {
    int64_t value = 0;
    if (peek() == '*') {
      ++at_;
      if (next_value().integer(value) == nullptr)
        throw Failure("* in a '%' format wants an integer");
    }
    for (; peek() >= '0' && peek() <= '9'; ++at_) value = value * 10 + (peek() - '0');
    if (value < 0) throw Unsupported("a negative width in a '%' format is not supported");
    if (value > 100000) throw Failure("a '%' format of more than 100000 characters");
    return value;
  }

  void conversion() {
    const Value* named = nullptr;
    if (peek() == '(') named = &named_value();
    Conversion c;
    for (;; ++at_) {
      if (peek() == '-')
        c.left = true;
      else if (peek() == '+')
        c.plus = true;
      else if (peek() == ' ')
        c.blank = true;
      else if (peek() == '0')
        c.zero = true;
      else if (peek() == '#')
        throw Unsupported("the flag # of a '%' format is not supported");
      else
        break;
    }
    c.width = number();
    if (peek() == '.') {
      ++at_;
      c.precision = number();
    }
    if (peek() == 'h' || peek() == 'l' || peek() == 'L') ++at_;
    c.type = peek();
    if (c.type == '\0') throw Failure("an incomplete '%' format");
    ++at_;
    if (c.type == '%') throw Unsupported("%% with options is not supported");
    std::string text = convert(c, named != nullptr ? *named : next_value());
    budget_.charge(static_cast<int64_t>(text.size()));
    out_ += text;
  }

  const Value& named_value() {
    size_t end = at_ + 1;
    for (int open = 1; end < text_.size(); ++end) {
      if (text_[end] == '(') ++open;
      if (text_[end] == ')' && --open == 0) break;
    }
    if (end >= text_.size()) throw Failure("an incomplete key in a '%' format");
    const Value key = text_.substr(at_ + 1, end - at_ - 1);
    if (values_.dict_body() == nullptr) throw Failure("a '%' format with names needs a dict");
    const Value* found = values_.find(key);
    if (found == nullptr)
      throw Failure("the dict has no '" + *key.text() + "' that a '%' format asks for");
    at_ = end + 1;
    used_ = 1;
    return *found;
  }

  static std::string convert(const Conversion& c, const Value& value) {
    switch (c.type) {
      case 's':
      case 'r': {
        const std::string text = c.type == 's' ? to_text(value) : to_repr(value);
        const auto shown = c.precision < 0 ? std::string_view(text) : part_of(text, 0, c.precision);
        return pad_text(shown, c.width, " ", c.left ? '<' : '>');
      }
      case 'c': {
        if (value.text() == nullptr || text_length(*value.text()) != 1)
          throw Unsupported("%c of anything but one character is not supported");
        return pad_text(*value.text(), c.width, " ", c.left ? '<' : '>');
      }
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return whole(c, value);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        return real(c, value);
      case 'a':
        throw Unsupported("%a is not supported");
      default:
        throw Failure(std::string("an unknown '%' format: ") + c.type);
    }
  }

  static std::string lay_out(const Conversion& c, bool negative, std::string digits) {
    const std::string sign = negative ? "-" : c.plus ? "+" : c.blank ? " " : "";
    const int64_t missing = c.width - static_cast<int64_t>(sign.size() + digits.size());
    if (c.zero && !c.left && missing > 0) digits.insert(0, static_cast<size_t>(missing), '0');
    return pad_text(sign + digits, c.width, " ", c.left ? '<' : '>');
  }

  static std::string whole(const Conversion& c, const Value& value) {
    int64_t number = 0;
    if (value.integer(number) == nullptr) {
      const double* real = value.as<double>();
      if (real == nullptr || c.type == 'x' || c.type == 'X' || c.type == 'o')
        throw Failure(std::string("%") + c.type + " needs an integer, not " + type_name(value));
      number = truncated(*real);
    }
    FormatBase base;
    std::string digits = base.of(number, c.type);
    if (c.precision > static_cast<int64_t>(digits.size()))
      digits.insert(0, static_cast<size_t>(c.precision) - digits.size(), '0');
    return lay_out(c, number < 0, digits);
  }

  struct FormatBase {
    std::string of(int64_t number, char type) const {
      const uint64_t magnitude =
          number < 0 ? -static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
      char buffer[32];
      const char* pattern = type == 'x'   ? "%llx"
                            : type == 'X' ? "%llX"
                            : type == 'o' ? "%llo"
                                          : "%llu";
      std::snprintf(buffer, sizeof buffer, pattern, static_cast<unsigned long long>(magnitude));
      return buffer;
    }
  };

  static std::string real(const Conversion& c, const Value& value) {
    double number = 0;
    if (!value.number(number))
      throw Failure(std::string("%") + c.type + " needs a number, not " + type_name(value));
    if (!std::isfinite(number)) throw Unsupported("formatting infinity and NaN is not supported");
    const char pattern[] = {'%', '.', '*', c.type, '\0'};
    char buffer[2048];
    std::snprintf(buffer, sizeof buffer, pattern,
                  c.precision < 0 ? 6 : static_cast<int>(std::min<int64_t>(c.precision, 1000)),
                  std::abs(number));
    return lay_out(c, std::signbit(number), buffer);
  }

  std::string_view text_;
  const Value& values_;
  Budget& budget_;
  size_t at_ = 0, used_ = 0;
  std::string out_;
};

}  // namespace

Value percent_format(const Value& text, const Value& values, Budget& budget) {
  if (text.is_markup()) throw Unsupported("'%' on a Markup is not supported");
  return PercentFormatter(*text.text(), values, budget).run();
}

}  // namespace qwb::jinja
