// Properties of characters as Python's str defines them, from ICU's tables.
#pragma once

#include <string>
#include <string_view>

namespace qwb::jinja {

bool is_python_space(char32_t point);  // str.isspace of one character
bool is_printable(char32_t point);     // what repr() shows as it is
bool is_decimal(char32_t point);       // str.isdecimal
bool is_digit(char32_t point);         // str.isdigit
bool is_numeric(char32_t point);       // str.isnumeric
bool is_alpha(char32_t point);
bool is_alnum(char32_t point);
// The value of a decimal digit of any script, else -1.
int decimal_value(char32_t point);

// str.isidentifier, isupper, islower, istitle.
bool is_identifier(std::string_view text);
bool is_upper_text(std::string_view text);
bool is_lower_text(std::string_view text);
bool is_title_text(std::string_view text);

// str.upper, lower, casefold, capitalize, title, swapcase.
std::string upper_text(std::string_view text);
std::string lower_text(std::string_view text);
std::string fold_text(std::string_view text);
std::string capitalize_text(std::string_view text);
std::string title_text(std::string_view text);
std::string swapcase_text(std::string_view text);

}  // namespace qwb::jinja
