// Patterns of Oniguruma against tokenizers' own cuts (tests/golden/make_regex.py): equal, or
// refused by name.
#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/tokenizer/split.h"

namespace qwb::tokenizer {
namespace {

Json regex_golden() {
  return parse_json(read_text(Path(QWB_SOURCE_DIR) / "tests/golden/tokenizer/regex.json"),
                    "regex.json");
}

struct Lengths : PieceSink {
  void piece(std::string_view text, bool) override { lengths.push_back(text.size()); }
  std::vector<size_t> lengths;
};

std::vector<size_t> cut(const std::string& text, const Regex& regex, const std::string& behavior,
                        bool invert) {
  Lengths sink;
  auto spans = match_spans(text, regex, invert);
  send_spans(text, true, spans, read_behavior(behavior, "test"), sink);
  return sink.lengths;
}

TEST(Oniguruma, CutsAsTokenizersOrRefuses) {
  const Json golden = regex_golden();
  const auto texts = golden["texts"].get<std::vector<std::string>>();
  size_t equal = 0, refused = 0, by_both = 0;
  for (const Json& c : golden["cases"]) {
    const auto pattern = c[0].get<std::string>();
    std::optional<Regex> regex;
    try {
      regex.emplace(pattern);
    } catch (const Error& error) {
      if (!c[1].is_null()) {
        EXPECT_EQ(error.kind(), ErrorKind::unsupported) << pattern << ": " << error.what();
      }
      ++(c[1].is_null() ? by_both : refused);
      continue;
    }
    ASSERT_FALSE(c[1].is_null()) << pattern << " is refused by tokenizers";
    ++equal;
    for (size_t i = 0; i < texts.size(); ++i)
      EXPECT_EQ(Json(cut(texts[i], *regex, "Isolated", false)), c[1][i])
          << pattern << " on " << Json(texts[i]).dump();
  }
  EXPECT_GT(equal, 1200u);
  EXPECT_LT(refused, 60u);
  EXPECT_GT(by_both, 20u);
}

TEST(Oniguruma, EmptyMatchesJoinAsInTokenizers) {
  const Json golden = regex_golden();
  const std::map<std::string, std::string> names = {{"removed", "Removed"},
                                                    {"merged_with_previous", "MergedWithPrevious"},
                                                    {"merged_with_next", "MergedWithNext"},
                                                    {"contiguous", "Contiguous"}};
  const auto texts = golden["texts"].get<std::vector<std::string>>();
  for (const Json& c : golden["behaviors"]) {
    const Regex regex(c[0].get<std::string>());
    for (size_t i = 0; i < texts.size(); ++i)
      EXPECT_EQ(Json(cut(texts[i], regex, names.at(c[1].get<std::string>()), c[2].get<bool>())),
                c[3][i])
          << c[0] << " " << c[1] << " " << c[2] << " on " << Json(texts[i]).dump();
  }
}

}  // namespace
}  // namespace qwb::tokenizer
