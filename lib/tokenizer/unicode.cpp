#include "lib/tokenizer/unicode.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <memory>
#include <vector>

#include "lib/base/utf8.h"

namespace qwb::tokenizer {
namespace {

struct Run {
  uint32_t first;
  uint16_t bits;
};
constexpr Run kRuns[] = {
#include "lib/tokenizer/unicode_tables.inc"
};

struct Pair {
  uint32_t from, to;
};
constexpr Pair kLower[] = {
#include "lib/tokenizer/unicode_lowercase.inc"
};

// Pages of 256 code points; equal neighbours share one, which leaves about 100 KB for all of
// Unicode.
struct Classes {
  static constexpr int kPages = 0x110000 / 256;
  std::array<uint16_t, kPages> page{};
  std::vector<std::array<uint16_t, 256>> bits;

  Classes() {
    size_t run = 0;
    for (int p = 0; p < kPages; ++p) {
      std::array<uint16_t, 256> row{};
      for (uint32_t k = 0; k < 256; ++k) {
        const uint32_t point = static_cast<uint32_t>(p) * 256 + k;
        while (run + 1 < std::size(kRuns) && kRuns[run + 1].first <= point) ++run;
        row[k] = kRuns[run].bits;
      }
      if (bits.empty() || bits.back() != row) bits.push_back(row);
      page[p] = static_cast<uint16_t>(bits.size() - 1);
    }
  }
};

}  // namespace

uint16_t char_class(char32_t point) {
  static const Classes classes;
  if (point >= 0x110000) return 0;
  return classes.bits[classes.page[point >> 8]][point & 0xff];
}

char32_t lower_case(char32_t point) {
  const auto* found =
      std::lower_bound(std::begin(kLower), std::end(kLower), static_cast<uint32_t>(point),
                       [](const Pair& pair, uint32_t value) { return pair.from < value; });
  return found != std::end(kLower) && found->from == point ? found->to : point;
}

void append_utf8(std::string& out, char32_t point) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xc0 | point >> 6), put(0x80 | (point & 0x3f));
  } else if (point < 0x10000) {
    put(0xe0 | point >> 12), put(0x80 | (point >> 6 & 0x3f)), put(0x80 | (point & 0x3f));
  } else {
    put(0xf0 | point >> 18), put(0x80 | (point >> 12 & 0x3f)), put(0x80 | (point >> 6 & 0x3f)),
        put(0x80 | (point & 0x3f));
  }
}

namespace {

// First byte of the first invalid sequence, or text.size().
size_t valid_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t word = 0;
    if (at + 8 <= text.size()) {
      std::memcpy(&word, text.data() + at, 8);
      if ((word & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    int bad = 0;
    const int size = utf8_sequence(text, at, bad);
    if (size <= 0) return at;
    at += static_cast<size_t>(size);
  }
  return at;
}

}  // namespace

bool is_valid_utf8(std::string_view text) {
  return valid_prefix(text) == text.size();
}

std::string sanitize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t good = valid_prefix(text);
    out.append(text.substr(0, good));
    if (good == text.size()) break;
    int bad = 1;
    utf8_sequence(text, good, bad);
    out.append(kReplacement);
    text.remove_prefix(good + static_cast<size_t>(bad));
  }
  return out;
}

}  // namespace qwb::tokenizer
