// Text for people: how wide it is on a terminal, sizes, durations, tables.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qwb {

// Terminal columns of UTF-8 text: control, format and combining characters take none, East Asian
// wide characters and emoji two, an invalid byte one (UAX #11 by ICU).
int64_t display_width(std::string_view text);
// The longest prefix of at most `width` columns, ending in "…" if something was cut off.
std::string fit_width(std::string_view text, int64_t width);

// "512 B", "14.7 MB" (powers of 1000, as disks and the Hugging Face Hub count).
std::string human_bytes(int64_t bytes);
// "0.8 ms", "3.2 s", "2:05", "1:02:03" (minutes and hours).
std::string human_duration(double seconds);
// Three or four significant digits: "0.0123", "8.25", "123", "12.3 k", "4.56 M".
std::string human_number(double value);

// Rows of cells under titles. Every row has as many cells as there are columns (throws usage
// otherwise).
class Table {
 public:
  enum class Align { left, right };  // words left, numbers right
  struct Column {
    std::string title;
    Align align = Align::left;
    int rank = 0;  // where the table is too wide the columns of the highest rank go first; 0 stays
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add_row(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  // Takes out the columns in which no row has a figure ("-" or nothing everywhere); rank 0 stays.
  void drop_unmeasured();
  // Takes out columns by rank, and of equals the last, until the text has at most `width` columns.
  // The titles of those that went.
  std::vector<std::string> fit(int64_t width);
  // Columns two spaces apart, titles first (bold with `color`), no spaces at the ends of lines.
  std::string text(bool color = false) const;
  // A GitHub table; "|" in cells is escaped.
  std::string markdown() const;

 private:
  std::vector<int64_t> widths() const;
  void drop(size_t column);
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace qwb
