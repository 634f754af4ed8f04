#include "lib/base/text.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/error.h"

namespace qwb {
namespace {

TEST(Text, DisplayWidth) {
  EXPECT_EQ(display_width(""), 0);
  EXPECT_EQ(display_width("abc"), 3);
  EXPECT_EQ(display_width("é"), 1);          // U+00E9
  EXPECT_EQ(display_width("e\xcc\x81"), 1);  // e + combining acute
  EXPECT_EQ(display_width("漢字"), 4);
  EXPECT_EQ(display_width("🙂"), 2);
  EXPECT_EQ(display_width("±"), 1);
  EXPECT_EQ(display_width("ข้าว"), 3);                 // Thai, a tone mark above
  EXPECT_EQ(display_width("\u05e9\u05c1"), 1);        // Hebrew, a point
  EXPECT_EQ(display_width("\u200b\u2060a"), 1);       // a space and a joiner of no width
  EXPECT_EQ(display_width("\u1112\u1161\u11ab"), 2);  // Hangul in its parts
  EXPECT_EQ(display_width("\uff71"), 1);              // half-width katakana
  EXPECT_EQ(display_width("\U0001f9ea\U0002070e"), 4);
  EXPECT_EQ(display_width("\xff\xc3"), 2);          // invalid bytes
  EXPECT_EQ(display_width("\xe2\x82"), 2);          // cut off
  EXPECT_EQ(display_width("\xe0\x80\x80"), 3);      // overlong
  EXPECT_EQ(display_width("\xed\xa0\x80"), 3);      // a surrogate
  EXPECT_EQ(display_width("\xf4\x90\x80\x80"), 4);  // beyond U+10FFFF
}

TEST(Text, FitWidth) {
  EXPECT_EQ(fit_width("abcdef", 6), "abcdef");
  EXPECT_EQ(fit_width("abcdef", 5), "abcd…");
  EXPECT_EQ(fit_width("漢字漢字", 4), "漢…");
  EXPECT_EQ(fit_width("abc", 0), "");
}

TEST(Text, Sizes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1000), "1.00 kB");
  EXPECT_EQ(human_bytes(999'500), "1.00 MB");
  EXPECT_EQ(human_bytes(14'700'000), "14.7 MB");
  EXPECT_EQ(human_bytes(INT64_MAX), "9.22 EB");
}

TEST(Text, DurationsAndNumbers) {
  EXPECT_EQ(human_duration(0.0008), "0.8 ms");
  EXPECT_EQ(human_duration(3.21), "3.2 s");
  EXPECT_EQ(human_duration(59.99), "1:00");
  EXPECT_EQ(human_duration(125), "2:05");
  EXPECT_EQ(human_duration(3723), "1:02:03");
  EXPECT_EQ(human_duration(NAN), "?");
  EXPECT_EQ(human_number(0.01234), "0.0123");
  EXPECT_EQ(human_number(8.25), "8.25");
  EXPECT_EQ(human_number(123.4), "123");
  EXPECT_EQ(human_number(12345), "12.3 k");
  EXPECT_EQ(human_number(4.56e6), "4.56 M");
  EXPECT_EQ(human_number(NAN), "nan");
}

TEST(Text, TablesAlignByColumns) {
  Table table(
      {{"name", Table::Align::left}, {"ppl", Table::Align::right}, {"note", Table::Align::left}});
  table.add_row({"漢字", "31.04", ""});
  table.add_row({"b|c", "5.1", "x"});
  EXPECT_EQ(table.text(),
            "name    ppl  note\n"
            "漢字  31.04\n"
            "b|c     5.1  x\n");
  EXPECT_EQ(table.markdown(),
            "| name | ppl | note |\n"
            "|---|---:|---|\n"
            "| 漢字 | 31.04 |  |\n"
            "| b\\|c | 5.1 | x |\n");
  EXPECT_EQ(table.text(true).substr(0, 4), "\x1b[1m");
  EXPECT_THROW(table.add_row({"too few"}), Error);
}

}  // namespace
}  // namespace qwb
