// The hand-written scanners against PCRE2 with the very pattern, on random Unicode text.
#include "lib/tokenizer/scanner.h"

#include <gtest/gtest.h>

#include "lib/base/rng.h"
#include "lib/tokenizer/regex.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

std::string random_text(Rng& rng) {
  constexpr std::string_view kPieces[] = {" ",
                                          "  ",
                                          "\n",
                                          "\r\n",
                                          "\t",
                                          "'",
                                          "'s",
                                          "'LL",
                                          "'re",
                                          "'\xc5\xbf",
                                          "a",
                                          "Zz",
                                          "1",
                                          "23",
                                          "!",
                                          "\xc3\xa9",
                                          "\xc2\xa0",
                                          "\xe3\x80\x80",
                                          "\xe1\xa0\x8e",
                                          "\xc2\x85"};
  std::string text;
  for (uint64_t n = rng.below(30) + 1; n > 0; --n) {
    if (rng.below(4) != 0) {
      text += kPieces[rng.below(std::size(kPieces))];
      continue;
    }
    auto point = static_cast<char32_t>(rng.below(rng.below(2) == 0 ? 0x3000 : 0x110000));
    if (point >= 0xd800 && point < 0xe000) point = 0xe000;
    append_utf8(text, point);
  }
  return text;
}

TEST(Scanner, CutsLikeTheRegularExpression) {
  Rng rng(11);
  for (const std::string_view pattern : {kGpt2Pattern, kLlama3Pattern, kQwen2Pattern}) {
    const auto known = known_pattern(pattern);
    ASSERT_TRUE(known.has_value());
    const Regex regex{std::string(pattern)};
    for (int round = 0; round < 20000; ++round) {
      const std::string text = random_text(rng);
      std::string storage;
      const auto subject = Regex::adapt(text, storage);
      for (size_t at = 0; at < text.size();) {
        const auto [begin, end] = regex.find(subject, at);
        ASSERT_EQ(begin, at);
        ASSERT_EQ(scan_piece(*known, text, at), end)
            << pattern << " at " << at << " of " << testing::PrintToString(text);
        at = end;
      }
    }
  }
  EXPECT_FALSE(known_pattern("x").has_value());
}

// The stand-ins make PCRE2 see each code point as the tables say.
TEST(Regex, SeesTheClassesOfTheTables) {
  const std::pair<Regex, uint16_t> probes[] = {{Regex("\\p{L}"), kLetter},
                                               {Regex("\\p{N}"), kNumber},
                                               {Regex("\\s"), kSpace},
                                               {Regex("\\w"), kWord}};
  for (char32_t point = 1; point < 0x110000; ++point) {
    if (point >= 0xd800 && point < 0xe000) continue;
    std::string text, storage;
    append_utf8(text, point);
    const auto subject = Regex::adapt(text, storage);
    for (const auto& [regex, bit] : probes) {
      ASSERT_EQ(regex.find(subject, 0).first == 0, (char_class(point) & bit) != 0)
          << std::hex << static_cast<uint32_t>(point) << " bit " << bit;
    }
  }
}

}  // namespace
}  // namespace qwb::tokenizer
