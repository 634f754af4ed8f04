#include "lib/tokenizer/added_tokens.h"

#include <algorithm>
#include <cstring>

#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {

int32_t TokenFinder::child_of(int32_t node, unsigned char byte) const {
  if (node == 0) return first_[byte];
  int32_t child = nodes_[node].child;
  while (child >= 0 && nodes_[child].byte != byte) child = nodes_[child].sibling;
  return child;
}

void TokenFinder::add(const AddedToken& token, std::string_view content) {
  if (content.empty()) return;
  int32_t node = 0;
  for (const char c : content) {
    const auto byte = static_cast<unsigned char>(c);
    int32_t child = child_of(node, byte);
    if (child < 0) {
      child = static_cast<int32_t>(nodes_.size());
      Node made;
      made.byte = byte;
      if (node == 0) {
        first_[byte] = child;
        starters_.push_back(byte);
      } else {
        made.sibling = nodes_[node].child;
        nodes_[node].child = child;
      }
      nodes_.push_back(made);
    }
    node = child;
  }
  Node& last = nodes_[node];
  if (last.token >= 0) return;  // of equal contents the first counts
  last.token = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
}

int32_t TokenFinder::longest(std::string_view text, size_t at, size_t& length) const {
  int32_t found = -1;
  int32_t node = 0;
  for (size_t k = at; k < text.size(); ++k) {
    node = child_of(node, static_cast<unsigned char>(text[k]));
    if (node < 0) break;
    if (nodes_[node].token >= 0) {
      found = nodes_[node].token;
      length = k + 1 - at;
    }
  }
  return found;
}

namespace {

bool is_word(Char c) {
  return (char_class(c.point) & kRustWord) != 0;
}
bool is_space(Char c) {
  return (char_class(c.point) & kRustSpace) != 0;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  return (begin == 0 || !is_word(char_before(text, begin))) &&
         (end == text.size() || !is_word(char_at(text, end)));
}

}  // namespace

void TokenFinder::ignore(const std::vector<bool>& marked) {
  ignored_ = marked;
}

void TokenFinder::split(std::string_view text, std::vector<TextPart>& parts) const {
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    if (starters_.size() == 1) {  // one first byte, often '<': skip ahead
      const void* next = std::memchr(text.data() + at, starters_[0], text.size() - at);
      if (next == nullptr) break;
      at = static_cast<size_t>(static_cast<const char*>(next) - text.data());
    } else if (first_[static_cast<unsigned char>(text[at])] < 0) {
      ++at;
      continue;
    }
    size_t length = 0;
    const int32_t found = longest(text, at, length);
    if (found < 0) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + length;
    at = end;
    const AddedToken& token = tokens_[found];
    const auto id = static_cast<size_t>(token.id);
    if (id < ignored_.size() && ignored_[id]) continue;
    if (token.single_word && !stands_alone(text, begin, end)) continue;
    while (token.lstrip && begin > done && is_space(char_before(text, begin)))
      begin -= static_cast<size_t>(char_before(text, begin).size);
    while (token.rstrip && end < text.size() && is_space(char_at(text, end)))
      end += static_cast<size_t>(char_at(text, end).size);
    if (done < begin) parts.push_back({done, begin, -1});
    parts.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({done, text.size(), -1});
}

}  // namespace qwb::tokenizer
