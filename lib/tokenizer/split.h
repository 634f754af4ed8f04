// Cutting a text where a pattern matches, with the five behaviors of tokenizers:
// on "the-final--countdown" and "-": removed the|final|countdown; isolated
// the|-|final|-|-|countdown; merged_with_previous the-|final-|-|countdown; merged_with_next
// the|-final|-|-countdown; contiguous the|-|final|--|countdown.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer/pre_tokenizer.h"
#include "lib/tokenizer/regex.h"

namespace qwb::tokenizer {

enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

// Spans that cover a text without gap or overlap; some of them are matches.
struct Span {
  size_t begin, end;
  bool match;
};

// Sends the pieces that `behavior` makes of `spans`.
void send_spans(std::string_view text, bool at_start, std::vector<Span>& spans,
                SplitBehavior behavior, PieceSink& sink);

// Spans where `regex` matches, as successive leftmost matches; `invert` swaps matches and the rest.
std::vector<Span> match_spans(std::string_view text, const Regex& regex, bool invert);

// Each character that has one of the class bits is a match of its own.
std::vector<Span> class_spans(std::string_view text, uint16_t bits);

// "Isolated", "Removed", ... as tokenizer.json spells them.
SplitBehavior read_behavior(const std::string& name, const std::string& where);

}  // namespace qwb::tokenizer
