// Python's numbers: reading, arithmetic, rounding.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "lib/chat/jinja/builtins.h"
#include "lib/chat/jinja/unicode.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {
namespace {

[[noreturn]] void too_large() {
  throw Unsupported("an integer has more than 63 bits, which is not supported");
}

// The ASCII digits of a number in any script, underscores between digits left out; empty if one is
// misplaced.
std::string plain_digits(std::string_view text) {
  std::string out;
  bool digit_before = false;
  for (size_t at = 0; at < text.size();) {
    const auto c = tokenizer::char_at(text, at);
    at += static_cast<size_t>(c.size);
    const int value = decimal_value(c.point);
    const bool alnum = c.point < 0x80 && std::isalnum(static_cast<int>(c.point)) != 0;
    if (c.point == '_') {
      const bool digit_after = at < text.size() && is_alnum(tokenizer::char_at(text, at).point);
      if (!digit_before || !digit_after) return {};
    } else if (value >= 0) {
      out += static_cast<char>('0' + value);
    } else if (c.point < 0x80) {
      out += static_cast<char>(c.point);
    } else {
      return {};
    }
    digit_before = value >= 0 || alnum;
  }
  return out;
}

int64_t whole_power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(result, base, &result)) too_large();
  }
  return result;
}

Value whole_arithmetic(std::string_view symbol, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (symbol == "+") overflow = __builtin_add_overflow(a, b, &result);
  if (symbol == "-") overflow = __builtin_sub_overflow(a, b, &result);
  if (symbol == "*") overflow = __builtin_mul_overflow(a, b, &result);
  if (symbol == "**") return whole_power(a, b);
  if (symbol == "//" || symbol == "%") {
    if (b == 0) throw Failure("division by zero");
    if (b == -1) return symbol == "%" ? Value(int64_t{0}) : whole_arithmetic("-", 0, a);
    const int64_t rest = a % b;
    const bool adjust = rest != 0 && (rest < 0) != (b < 0);  // Python rounds the quotient down
    result = symbol == "%" ? rest + (adjust ? b : 0) : a / b - (adjust ? 1 : 0);
  }
  if (overflow) too_large();
  return result;
}

// float.__divmod__ of CPython.
std::pair<double, double> divided(double a, double b) {
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0) {
    if ((b < 0) != (rest < 0)) {
      rest += b;
      quotient -= 1;
    }
  } else {
    rest = std::copysign(0.0, b);
  }
  if (quotient == 0) return {std::copysign(0.0, a / b), rest};
  double whole = std::floor(quotient);
  if (quotient - whole > 0.5) whole += 1;
  return {whole, rest};
}

double real_power(double a, double b) {
  if (a == 0 && b < 0) throw Failure("0.0 cannot be raised to a negative power");
  if (a < 0 && std::isfinite(b) && b != std::floor(b) && std::isfinite(a))
    throw Unsupported("complex numbers are not supported");
  const double result = std::pow(a, b);
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b))
    throw Failure("a power is too large");
  return result;
}

Value real_arithmetic(std::string_view symbol, double a, double b) {
  if (symbol == "+") return a + b;
  if (symbol == "-") return a - b;
  if (symbol == "*") return a * b;
  if (symbol == "**") return real_power(a, b);
  if (b == 0) throw Failure("division by zero");
  if (symbol == "/") return a / b;
  const auto [quotient, rest] = divided(a, b);
  return symbol == "//" ? quotient : rest;
}

Value repeat(const Value& value, int64_t count, Budget& budget) {
  count = std::max<int64_t>(count, 0);
  if (count > kMaxWeight) throw Failure("a repetition is too large");
  budget.charge(value.weight() * count);
  if (const auto* text = value.text()) {
    std::string out;
    out.reserve(text->size() * static_cast<size_t>(count));
    for (; count > 0; --count) out += *text;
    return Value::text_like(std::move(out), value.is_markup());
  }
  std::vector<Value> items;
  const auto* list = value.items();
  for (; count > 0; --count) items.insert(items.end(), list->items.begin(), list->items.end());
  return Value::list(std::move(items), list->tuple);
}

Value add_texts(const Value& a, const Value& b) {
  if (a.is_markup() || b.is_markup()) return Value::markup(*escape(a).text() + *escape(b).text());
  return *a.text() + *b.text();
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  text = strip_text(text, nullptr, true, true);
  const bool minus = text.starts_with('-');
  if (minus || text.starts_with('+')) text.remove_prefix(1);
  const auto prefixed = [&](char low, int64_t of) {
    if (text.size() < 2 || text[0] != '0' || (text[1] | 0x20) != low || (base != of && base != 0))
      return false;
    text.remove_prefix(2);
    if (text.starts_with('_')) text.remove_prefix(1);
    base = of;
    return true;
  };
  const bool prefix = prefixed('x', 16) || prefixed('o', 8) || prefixed('b', 2);
  const std::string digits = plain_digits(text);
  if (digits.empty() || std::isalnum(static_cast<unsigned char>(digits[0])) == 0)
    return std::nullopt;
  if (base == 0) {  // 0 may have more zeros before it, no other number may
    if (digits[0] == '0' && digits.find_first_not_of('0') != std::string::npos && !prefix)
      return std::nullopt;
    base = 10;
  }
  int64_t value = 0;
  const std::string whole = (minus ? "-" : "") + digits;
  const auto read =
      std::from_chars(whole.data(), whole.data() + whole.size(), value, static_cast<int>(base));
  if (read.ptr != whole.data() + whole.size()) return std::nullopt;
  if (read.ec != std::errc()) too_large();
  return value;
}

std::optional<double> parse_real(std::string_view text) {
  std::string digits = plain_digits(strip_text(text, nullptr, true, true));
  std::ranges::transform(digits, digits.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  size_t at = !digits.empty() && (digits[0] == '-' || digits[0] == '+') ? 1 : 0;
  const std::string_view rest = std::string_view(digits).substr(at);
  const double sign = at == 1 && digits[0] == '-' ? -1 : 1;
  if (rest == "inf" || rest == "infinity") return sign * HUGE_VAL;
  if (rest == "nan") return std::copysign(NAN, sign);
  if (rest.empty() || rest.find_first_not_of("0123456789.e+-") != std::string_view::npos)
    return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end);
  if (end != digits.c_str() + digits.size() || rest[0] == '+' || rest[0] == '-')
    return std::nullopt;
  return value;
}

int64_t truncated(double value) {
  if (!std::isfinite(value)) throw Failure("infinity and NaN are no integers");
  if (std::abs(value) >= 9.2e18) too_large();
  return static_cast<int64_t>(value);
}

Value round_value(const Value& value, const Value& precision) {
  int64_t whole = 0, digits = 0;
  const bool given = !precision.is_none();
  if (!value.is_number()) throw Failure("round needs a number, not " + type_name(value));
  if (given && precision.integer(digits) == nullptr)
    throw Failure("round needs an integer precision");
  if (value.integer(whole) != nullptr) {
    if (digits < 0) throw Unsupported("rounding to a negative precision is not supported");
    return whole;
  }
  const double number = *value.as<double>();
  if (!given) return truncated(std::nearbyint(number));
  if (!std::isfinite(number) || digits > 400) return number;
  if (digits < 0) throw Unsupported("rounding to a negative precision is not supported");
  char text[1024];
  std::snprintf(text, sizeof text, "%.*f", static_cast<int>(digits),
                number);  // exact, ties to even
  return std::strtod(text, nullptr);
}

Value negate(const Value& value, bool minus) {
  int64_t whole = 0;
  if (value.integer(whole) != nullptr) return minus ? whole_arithmetic("-", 0, whole) : whole;
  if (const double* real = value.as<double>()) return minus ? -*real : *real;
  throw Failure(std::string("cannot compute ") + (minus ? "-" : "+") + type_name(value));
}

Value arithmetic(std::string_view symbol, const Value& a, const Value& b, Budget& budget) {
  budget.charge(symbol == "*" ? 1 : a.weight() + b.weight());
  int64_t i = 0, j = 0;
  double x = 0, y = 0;
  if (a.integer(i) != nullptr && b.integer(j) != nullptr && symbol != "/" &&
      !(symbol == "**" && j < 0))
    return whole_arithmetic(symbol, i, j);
  if (a.number(x) && b.number(y)) {
    constexpr int64_t kExact = int64_t{1} << 53;
    const bool whole = a.integer(i) != nullptr && b.integer(j) != nullptr;
    if (whole && symbol == "/" && j != 0 && (std::abs(x) > kExact || std::abs(y) > kExact))
      throw Unsupported("dividing integers of more than 53 bits is not supported");
    return real_arithmetic(symbol, x, y);
  }
  if (symbol == "+" && a.text() != nullptr && b.text() != nullptr) return add_texts(a, b);
  if (symbol == "+" && a.items() != nullptr && b.items() != nullptr &&
      a.items()->tuple == b.items()->tuple) {
    auto items = a.items()->items;
    items.insert(items.end(), b.items()->items.begin(), b.items()->items.end());
    return Value::list(std::move(items), a.items()->tuple);
  }
  const auto repeats = [](const Value& value) {
    return value.text() != nullptr || value.items() != nullptr;
  };
  if (symbol == "*" && repeats(a) && b.integer(j) != nullptr) return repeat(a, j, budget);
  if (symbol == "*" && repeats(b) && a.integer(i) != nullptr) return repeat(b, i, budget);
  if (symbol == "%" && a.text() != nullptr) return percent_format(a, b, budget);
  if (symbol == "-" && (a.as<View>() != nullptr || b.as<View>() != nullptr))
    throw Unsupported("sets are not supported");
  throw Failure("cannot compute " + type_name(a) + " " + std::string(symbol) + " " + type_name(b));
}

}  // namespace qwb::jinja
