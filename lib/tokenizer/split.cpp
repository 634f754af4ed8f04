#include "lib/tokenizer/split.h"

#include <algorithm>

#include "lib/base/error.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

// Joins spans in place by `behavior`; the result's match flags no longer matter, except for
// `removed`.
void join(std::vector<Span>& spans, SplitBehavior behavior) {
  if (behavior == SplitBehavior::isolated || behavior == SplitBehavior::removed) return;
  const bool backwards = behavior == SplitBehavior::merged_with_next;
  if (backwards) std::ranges::reverse(spans);
  size_t kept = 0;
  bool previous_match = false;
  for (size_t i = 0; i < spans.size(); ++i) {
    const Span span = spans[i];
    const bool glue = behavior == SplitBehavior::contiguous ? span.match == previous_match
                                                            : span.match && !previous_match;
    if (glue && kept > 0) {
      Span& last = spans[kept - 1];
      last.begin = std::min(last.begin, span.begin);
      last.end = std::max(last.end, span.end);
    } else {
      spans[kept++] = span;
    }
    previous_match = span.match;
  }
  spans.resize(kept);
  if (backwards) std::ranges::reverse(spans);
}

}  // namespace

void send_spans(std::string_view text, bool at_start, std::vector<Span>& spans,
                SplitBehavior behavior, PieceSink& sink) {
  join(spans, behavior);
  for (const Span& span : spans) {
    if (span.begin == span.end || (behavior == SplitBehavior::removed && span.match)) continue;
    sink.piece(text.substr(span.begin, span.end - span.begin), at_start && span.begin == 0);
  }
}

std::vector<Span> match_spans(std::string_view text, const Regex& regex, bool invert) {
  std::vector<Span> spans;
  std::string storage;
  const std::string_view subject = Regex::adapt(text, storage);
  size_t done = 0, last = std::string_view::npos;
  for (size_t from = 0; from <= subject.size();) {
    const auto [begin, end] = regex.find(subject, from);
    if (begin == std::string_view::npos) break;
    if (begin == end && end == last) {  // an empty match right behind the last one does not count
      from = end + (end < text.size() ? static_cast<size_t>(char_at(text, end).size) : 1);
      continue;
    }
    if (done != begin) spans.push_back({done, begin, invert});
    spans.push_back({begin, end, !invert});
    done = last = from = end;
  }
  if (done != text.size()) spans.push_back({done, text.size(), invert});
  return spans;
}

std::vector<Span> class_spans(std::string_view text, uint16_t bits) {
  std::vector<Span> spans;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    const size_t end = at + static_cast<size_t>(c.size);
    if ((char_class(c.point) & bits) != 0) {
      if (done != at) spans.push_back({done, at, false});
      spans.push_back({at, end, true});
      done = end;
    }
    at = end;
  }
  if (done != text.size()) spans.push_back({done, text.size(), false});
  return spans;
}

SplitBehavior read_behavior(const std::string& name, const std::string& where) {
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  throw Error(ErrorKind::unsupported, "the split behavior '" + name + "' is not known", where);
}

}  // namespace qwb::tokenizer
