#include "lib/base/text.h"

#include <fmt/format.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/utf8.h"

namespace qwb {
namespace {

// The next character and its bytes; an invalid byte stands for itself.
std::pair<UChar32, size_t> next_character(std::string_view text) {
  int bad = 0;
  const int length = utf8_sequence(text, 0, bad);
  if (length <= 0) return {0xfffd, 1};
  const auto lead = static_cast<unsigned char>(text[0]);
  char32_t c = length == 1 ? lead : lead & (0xffu >> (length + 1));
  for (const char byte : text.substr(1, static_cast<size_t>(length) - 1))
    c = (c << 6) | (static_cast<unsigned char>(byte) & 0x3fu);
  return {static_cast<UChar32>(c), static_cast<size_t>(length)};
}

// Format characters take no column, but for the soft hyphen, which terminals show. Vowels and
// finals of Hangul written in parts stand inside of the first part.
int64_t character_width(UChar32 c) {
  if ((U_MASK(u_charType(c)) & (U_GC_CC_MASK | U_GC_MN_MASK | U_GC_ME_MASK)) != 0) return 0;
  if (u_charType(c) == U_FORMAT_CHAR) return c == 0xad ? 1 : 0;
  const int syllable = u_getIntPropertyValue(c, UCHAR_HANGUL_SYLLABLE_TYPE);
  if (syllable == U_HST_VOWEL_JAMO || syllable == U_HST_TRAILING_JAMO) return 0;
  const int width = u_getIntPropertyValue(c, UCHAR_EAST_ASIAN_WIDTH);
  return width == U_EA_WIDE || width == U_EA_FULLWIDTH ? 2 : 1;
}

std::string padding(int64_t width) {
  return std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
}

std::string padded(const std::string& cell, int64_t width, Table::Align align) {
  const std::string space = padding(width - display_width(cell));
  return align == Table::Align::right ? space + cell : cell + space;
}

}  // namespace

int64_t display_width(std::string_view text) {
  int64_t width = 0;
  while (!text.empty()) {
    const auto [character, length] = next_character(text);
    width += character_width(character);
    text.remove_prefix(length);
  }
  return width;
}

std::string fit_width(std::string_view text, int64_t width) {
  if (display_width(text) <= width) return std::string(text);
  if (width <= 0) return {};
  int64_t used = 0;
  size_t end = 0;
  while (end < text.size()) {
    const auto [character, length] = next_character(text.substr(end));
    if (used + character_width(character) > width - 1) break;
    used += character_width(character);
    end += length;
  }
  return std::string(text.substr(0, end)) + "…";
}

std::string human_bytes(int64_t bytes) {
  constexpr std::array<const char*, 7> kUnits = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes > -1000 && bytes < 1000) return fmt::format("{} B", bytes);
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  // 999.5 would print as 1000
  while (std::abs(value) >= 999.5 && unit + 1 < kUnits.size()) value /= 1000, ++unit;
  const int digits = std::abs(value) < 9.995 ? 2 : std::abs(value) < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, digits, kUnits[unit]);
}

std::string human_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  if (seconds < 0.9995) return fmt::format("{:.3g} ms", seconds * 1e3);
  if (seconds < 59.95) return fmt::format("{:.1f} s", seconds);
  const int64_t whole = seconds < 1e15 ? std::llround(seconds) : 0;
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string human_number(double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  const double size = std::abs(value);
  if (size >= 999.5e6) return fmt::format("{:.3g} G", value / 1e9);
  if (size >= 999.5e3) return fmt::format("{:.3g} M", value / 1e6);
  if (size >= 9999.5) return fmt::format("{:.3g} k", value / 1e3);
  if (size >= 99.95) return fmt::format("{:.0f}", value);
  if (size >= 9.995) return fmt::format("{:.1f}", value);
  if (size >= 0.9995) return fmt::format("{:.2f}", value);
  return fmt::format("{:.3g}", value);
}

void Table::add_row(std::vector<std::string> cells) {
  if (cells.size() != columns_.size()) {
    throw Error(ErrorKind::usage,
                fmt::format("a row of {} cells in a table of {}", cells.size(), columns_.size()));
  }
  rows_.push_back(std::move(cells));
}

std::vector<int64_t> Table::widths() const {
  std::vector<int64_t> result;
  for (size_t c = 0; c < columns_.size(); ++c) {
    int64_t width = display_width(columns_[c].title);
    for (const auto& row : rows_) width = std::max(width, display_width(row[c]));
    result.push_back(width);
  }
  return result;
}

void Table::drop(size_t column) {
  const auto place = static_cast<std::ptrdiff_t>(column);
  columns_.erase(columns_.begin() + place);
  for (auto& row : rows_) row.erase(row.begin() + place);
}

void Table::drop_unmeasured() {
  for (size_t c = columns_.size(); c-- > 0;) {
    const bool none = std::all_of(rows_.begin(), rows_.end(),
                                  [c](const auto& row) { return row[c].empty() || row[c] == "-"; });
    if (none && columns_[c].rank > 0) drop(c);
  }
}

std::vector<std::string> Table::fit(int64_t width) {
  std::vector<std::string> hidden;
  for (;;) {
    int64_t used = 2 * static_cast<int64_t>(columns_.size()) - 2;
    for (const int64_t column : widths()) used += column;
    size_t least = 0;  // the column to go
    for (size_t c = 1; c < columns_.size(); ++c) {
      if (columns_[c].rank >= columns_[least].rank) least = c;
    }
    if (used <= width || columns_.empty() || columns_[least].rank == 0) return hidden;
    hidden.insert(hidden.begin(), columns_[least].title);
    drop(least);
  }
}

std::string Table::text(bool color) const {
  const std::vector<int64_t> width = widths();
  std::string out;
  const auto add_line = [&](const auto& cell_of, bool bold) {
    std::string line;
    for (size_t c = 0; c < columns_.size(); ++c) {
      if (c > 0) line += "  ";
      line += padded(cell_of(c), width[c], columns_[c].align);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += bold ? "\x1b[1m" + line + "\x1b[0m\n" : line + "\n";
  };
  add_line([&](size_t c) { return columns_[c].title; }, color);
  for (const auto& row : rows_) add_line([&](size_t c) { return row[c]; }, false);
  return out;
}

std::string Table::markdown() const {
  const auto escaped = [](const std::string& cell) {
    std::string out;
    for (const char c : cell)
      out += c == '|' ? std::string("\\|") : c == '\n' ? std::string(" ") : std::string(1, c);
    return out;
  };
  std::string out = "|";
  for (const auto& column : columns_) out += " " + escaped(column.title) + " |";
  out += "\n|";
  for (const auto& column : columns_) out += column.align == Align::right ? "---:|" : "---|";
  out += "\n";
  for (const auto& row : rows_) {
    out += "|";
    for (const auto& cell : row) out += " " + escaped(cell) + " |";
    out += "\n";
  }
  return out;
}

}  // namespace qwb
