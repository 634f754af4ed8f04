// Added tokens: texts that are found before anything else and have an id of their own.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qwb::tokenizer {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool single_word = false;  // only where no word character (\w) touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool normalized =
      true;  // searched in the normalized text (its own content normalized too), not in the raw one
  bool special = false;  // left out of decoded text when special tokens are skipped
};

// A part of a text: an added token (id >= 0) or ordinary text (id -1).
struct TextPart {
  size_t begin, end;
  int32_t id;
};

// Finds many strings at once, leftmost first, the longest of those that begin at one place. Matches
// do not overlap.
class TokenFinder {
 public:
  void add(const AddedToken& token, std::string_view content);
  // Tokens whose id is marked are found but left as ordinary text (split_special_tokens).
  void ignore(const std::vector<bool>& marked);
  bool empty() const { return tokens_.empty(); }
  // Parts in order, empty ones left out. With rstrip a token may be found inside what the one
  // before it swallowed, as in tokenizers.
  void split(std::string_view text, std::vector<TextPart>& parts) const;

 private:
  // A trie; the children of a node are a linked list, except the root's, which are a table.
  struct Node {
    int32_t sibling = -1, child = -1, token = -1;
    unsigned char byte = 0;
  };
  int32_t child_of(int32_t node, unsigned char byte) const;
  // The longest token at `at`: its index or -1, and its length.
  int32_t longest(std::string_view text, size_t at, size_t& length) const;

  std::vector<AddedToken> tokens_;
  std::vector<bool> ignored_;  // by id
  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<int32_t, 256> first_ = [] {
    std::array<int32_t, 256> none{};
    none.fill(-1);
    return none;
  }();
  std::vector<unsigned char> starters_;
};

}  // namespace qwb::tokenizer
