// Stop strings and reasoning: the result does not depend on where the pieces of a text are cut.
#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "lib/chat/reasoning.h"
#include "lib/chat/stop_strings.h"

namespace qwb {
namespace {

// Every way to cut `text` into three pieces.
template <class Body>
void each_cut_in_three(const std::string& text, const Body& body) {
  for (size_t a = 0; a <= text.size(); ++a) {
    for (size_t b = a; b <= text.size(); ++b)
      body(std::vector<std::string>{text.substr(0, a), text.substr(a, b - a), text.substr(b)});
  }
}

std::string stopped(const std::vector<std::string>& stops, const std::vector<std::string>& pieces,
                    std::string& found) {
  StopStrings strings(stops);
  std::string text;
  for (const std::string& piece : pieces) text += strings.push(piece);
  found = strings.found();
  return text + strings.finish();
}

void expect_stopped(const std::vector<std::string>& stops, const std::string& text,
                    const std::string& before, const std::string& stop) {
  each_cut_in_three(text, [&](const std::vector<std::string>& pieces) {
    std::string found;
    EXPECT_EQ(stopped(stops, pieces, found), before) << pieces[0] << "|" << pieces[1];
    EXPECT_EQ(found, stop) << pieces[0] << "|" << pieces[1];
  });
}

TEST(StopStrings, AreFoundOverEveryCut) {
  expect_stopped({"###"}, "one ### two", "one ", "###");
  expect_stopped({"###"}, "one ## two #", "one ## two #", "");
  expect_stopped({"aab"}, "aaab", "a", "aab");
  expect_stopped({"abac"}, "ababac!", "ab", "abac");
  expect_stopped({"é\n"}, "caf\u00e9\nnoir", "caf", "é\n");
  expect_stopped({}, "text", "text", "");
}

TEST(StopStrings, TheOneThatEndsFirstCounts) {
  expect_stopped({"long stop", "st"}, "a long stop", "a long ", "st");
  expect_stopped({"b", "ab"}, "xab", "x", "ab");  // of two that end together, the longer
  expect_stopped({"bc", "abcd"}, "xabcd", "xa", "bc");
}

TEST(StopStrings, HoldBackNoMoreThanTheyMust) {
  StopStrings strings({"</s>"});
  EXPECT_EQ(strings.push("a <"), "a ");
  EXPECT_EQ(strings.push("b </"), "<b ");
  EXPECT_EQ(strings.push("s"), "");
  EXPECT_EQ(strings.finish(), "</s");
  EXPECT_THROW(StopStrings({""}), Error);
}

struct Split {
  std::string reasoning, content;
  bool operator==(const Split&) const = default;
};

void expect_split(const std::string& prompt, const std::string& text, const Split& split) {
  each_cut_in_three(text, [&](const std::vector<std::string>& pieces) {
    ReasoningSplitter splitter(known_reasoning_tags(), prompt);
    Split got;
    const auto take = [&](const std::vector<AnswerPart>& parts) {
      for (const AnswerPart& part : parts)
        (part.reasoning ? got.reasoning : got.content) += part.text;
    };
    for (const std::string& piece : pieces) take(splitter.push(piece));
    take(splitter.finish());
    EXPECT_EQ(got.reasoning, split.reasoning) << pieces[0] << "|" << pieces[1];
    EXPECT_EQ(got.content, split.content) << pieces[0] << "|" << pieces[1];
  });
}

TEST(Reasoning, IsToldApartOverEveryCut) {
  expect_split("user: x", "<think>\nso\nit is\n</think>\n\nYes.\n", {"so\nit is", "Yes.\n"});
  expect_split("user: x", " [THINK]a[/THINK]b", {"a", "b"});
  expect_split("user: x", "<think></think>x", {"", "x"});
  expect_split("user: x", "<think>never", {"never", ""});
}

TEST(Reasoning, TheTemplateMayHaveOpenedIt) {
  expect_split("user: x <think>\n", "so\n</think>\n\nYes", {"so", "Yes"});
  expect_split("x <think>\n\n</think>\n\n", "Yes </think>", {"", "Yes </think>"});
}

TEST(Reasoning, StandsAtTheBeginningOrNowhere) {
  expect_split("x", "The tag <think> opens.", {"", "The tag <think> opens."});
  expect_split("x", " <thin", {"", " <thin"});
  ReasoningSplitter none({}, "x <think>");
  EXPECT_EQ(none.push("<think>a").at(0).text, "<think>a");
}

}  // namespace
}  // namespace qwb
