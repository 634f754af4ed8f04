#include "lib/chat/jinja/unicode.h"

#include <unicode/casemap.h>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>

#include "lib/chat/jinja/value.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {
namespace {

constexpr std::string_view kCapitalSigma = "\u03a3";

std::string utf8(const icu::UnicodeString& text) {
  std::string out;
  text.toUTF8String(out);
  return out;
}

icu::UnicodeString utf16(std::string_view text) {
  return icu::UnicodeString::fromUTF8({text.data(), static_cast<int32_t>(text.size())});
}

UChar32 code(char32_t point) {
  return static_cast<UChar32>(point);
}

bool is_upper(char32_t point) {
  return u_isUUppercase(code(point)) != 0;
}
bool is_lower(char32_t point) {
  return u_isULowercase(code(point)) != 0;
}
bool is_titlecase(char32_t point) {
  return u_charType(code(point)) == U_TITLECASE_LETTER;
}

// One character in title case; some become two or three.
std::string title_character(std::string_view character) {
  const icu::UnicodeString source = utf16(character);
  UErrorCode error = U_ZERO_ERROR;
  char16_t buffer[16];
  const int32_t size = icu::CaseMap::toTitle(
      "", U_TITLECASE_WHOLE_STRING | U_TITLECASE_NO_LOWERCASE | U_TITLECASE_NO_BREAK_ADJUSTMENT,
      nullptr, source.getBuffer(), source.length(), buffer, 16, nullptr, error);
  if (U_FAILURE(error)) throw Failure("a character has no title case");
  return utf8({buffer, size});
}

template <class Use>
void each_character(std::string_view text, const Use& use) {
  for (size_t at = 0; at < text.size();) {
    const auto c = tokenizer::char_at(text, at);
    use(c.point, text.substr(at, static_cast<size_t>(c.size)));
    at += static_cast<size_t>(c.size);
  }
}

// Python lowers a capital sigma according to its neighbours.
void refuse_sigma(std::string_view text) {
  if (text.find(kCapitalSigma) != std::string_view::npos)
    throw Unsupported("title() and swapcase() of a text with the letter \u03a3 are not supported");
}

}  // namespace

bool is_python_space(char32_t p) {
  return (p >= 9 && p <= 13) || (p >= 0x1c && p <= 0x20) || p == 0x85 || p == 0xa0 || p == 0x1680 ||
         (p >= 0x2000 && p <= 0x200a) || p == 0x2028 || p == 0x2029 || p == 0x202f || p == 0x205f ||
         p == 0x3000;
}

bool is_printable(char32_t point) {
  if (point == ' ') return true;
  switch (u_charType(code(point))) {
    case U_CONTROL_CHAR:
    case U_FORMAT_CHAR:
    case U_SURROGATE:
    case U_PRIVATE_USE_CHAR:
    case U_UNASSIGNED:
    case U_LINE_SEPARATOR:
    case U_PARAGRAPH_SEPARATOR:
    case U_SPACE_SEPARATOR:
      return false;
    default:
      return true;
  }
}

bool is_decimal(char32_t point) {
  return u_getIntPropertyValue(code(point), UCHAR_NUMERIC_TYPE) == U_NT_DECIMAL;
}
bool is_digit(char32_t point) {
  const int32_t type = u_getIntPropertyValue(code(point), UCHAR_NUMERIC_TYPE);
  return type == U_NT_DECIMAL || type == U_NT_DIGIT;
}
bool is_numeric(char32_t point) {
  return u_getIntPropertyValue(code(point), UCHAR_NUMERIC_TYPE) != U_NT_NONE;
}
bool is_alpha(char32_t point) {
  return u_isalpha(code(point)) != 0;
}
bool is_alnum(char32_t point) {
  return is_alpha(point) || is_numeric(point);
}
int decimal_value(char32_t point) {
  return is_decimal(point) ? static_cast<int>(u_charDigitValue(code(point))) : -1;
}

bool is_identifier(std::string_view text) {
  bool first = true, good = !text.empty();
  each_character(text, [&](char32_t point, std::string_view) {
    good = good &&
           (u_hasBinaryProperty(code(point), first ? UCHAR_XID_START : UCHAR_XID_CONTINUE) != 0 ||
            (first && point == '_'));
    first = false;
  });
  return good;
}

bool is_upper_text(std::string_view text) {
  bool cased = false, good = true;
  each_character(text, [&](char32_t point, std::string_view) {
    good = good && !is_lower(point) && !is_titlecase(point);
    cased = cased || is_upper(point);
  });
  return good && cased;
}

bool is_lower_text(std::string_view text) {
  bool cased = false, good = true;
  each_character(text, [&](char32_t point, std::string_view) {
    good = good && !is_upper(point) && !is_titlecase(point);
    cased = cased || is_lower(point);
  });
  return good && cased;
}

bool is_title_text(std::string_view text) {
  bool cased = false, good = true, inside = false;
  each_character(text, [&](char32_t point, std::string_view) {
    const bool begins = is_upper(point) || is_titlecase(point), goes_on = is_lower(point);
    good = good && !(begins && inside) && !(goes_on && !begins && !inside);
    inside = begins || goes_on;
    cased = cased || inside;
  });
  return good && cased;
}

std::string upper_text(std::string_view text) {
  return utf8(utf16(text).toUpper(icu::Locale::getRoot()));
}
std::string lower_text(std::string_view text) {
  return utf8(utf16(text).toLower(icu::Locale::getRoot()));
}
std::string fold_text(std::string_view text) {
  return utf8(utf16(text).foldCase());
}

std::string capitalize_text(std::string_view text) {
  if (text.empty()) return {};
  const auto first = text.substr(0, static_cast<size_t>(tokenizer::char_at(text, 0).size));
  // The rest is lowered with the first before it, which a final sigma needs.
  const std::string lowered = lower_text(text);
  const size_t skip = first == kCapitalSigma ? kCapitalSigma.size() : lower_text(first).size();
  return title_character(first) + lowered.substr(skip);
}

std::string title_text(std::string_view text) {
  refuse_sigma(text);
  std::string out;
  bool inside = false;
  each_character(text, [&](char32_t point, std::string_view character) {
    out += inside ? lower_text(character) : title_character(character);
    inside = u_hasBinaryProperty(code(point), UCHAR_CASED) != 0;
  });
  return out;
}

std::string swapcase_text(std::string_view text) {
  refuse_sigma(text);
  std::string out;
  each_character(text, [&](char32_t point, std::string_view character) {
    out += is_upper(point)   ? lower_text(character)
           : is_lower(point) ? upper_text(character)
                             : std::string(character);
  });
  return out;
}

}  // namespace qwb::jinja
