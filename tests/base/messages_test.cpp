// What a user reads: JSON errors without the document, other libraries' exceptions in our words,
// tables that fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <new>

#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/base/names.h"
#include "lib/base/text.h"

namespace qwb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string json_refusal(const std::string& text) {
  try {
    parse_json(text, "f.json");
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST(Messages, JsonErrorsTellThePlaceAndNotTheDocument) {
  std::string words;
  for (int i = 0; i < 20'000; ++i) words += "word ";
  const std::string open = json_refusal("{\"text\": \"" + words);
  EXPECT_LT(open.size(), 300u);
  EXPECT_THAT(open, HasSubstr("f.json: not valid JSON at row 1, column 100011: "));
  EXPECT_THAT(open, HasSubstr("missing closing quote"));
  EXPECT_THAT(open, HasSubstr("after '"));
  EXPECT_THAT(json_refusal("{\"a\": 1,\n \"b\": oops}"), HasSubstr("at row 2, column 7: "));
  EXPECT_THAT(json_refusal("{\"a\": 1,\n \"b\": oops}"), HasSubstr("after ' \"b\": "));
  for (const char* nothing : {"", " ", "\n\t\r\n"})
    EXPECT_THAT(json_refusal(nothing), HasSubstr("there is nothing in it"));
  EXPECT_THAT(json_refusal("[1e999]"), HasSubstr("not valid JSON"));
  EXPECT_THAT(json_refusal("[\"\xff\"]"), HasSubstr("UTF-8"));
  EXPECT_THAT(json_refusal("[\"\x1b[31m\", ]"), Not(HasSubstr("\x1b")));
  const std::string twice = "{\"" + words + "\": 1, \"" + words + "\": 2}";
  EXPECT_LT(json_refusal(twice).size(), 300u);
  for (const char* text : {"{", "{} {}", "[1,]", "nul", "{\"a\" 1}"})
    EXPECT_THAT(json_refusal(text), Not(HasSubstr("json.exception"))) << text;
}

TEST(Messages, ForeignExceptionsSpeakOurLanguage) {
  const std::filesystem::filesystem_error files(
      "cannot create directories", "/a/b", std::make_error_code(std::errc::read_only_file_system));
  EXPECT_STREQ(as_error(files).what(),
               "/a/b: cannot be used: Read-only file system (the file system is read-only; choose "
               "another folder)");
  EXPECT_STREQ(as_error(std::bad_alloc()).what(), "out of memory");
  EXPECT_EQ(as_error(Error(ErrorKind::unsupported, "mine")).kind(), ErrorKind::unsupported);
  try {
    Json::array().at(3);
  } catch (const std::exception& error) {
    EXPECT_THAT(as_error(error).what(), Not(HasSubstr("json.exception")));
  }
}

TEST(Messages, NamesInAnyCaseAndNearOnes) {
  EXPECT_TRUE(same_name("Q4_k", "q4_K"));
  EXPECT_FALSE(same_name("q4_k", "q4_k2"));
  EXPECT_TRUE(has_suffix("a/B.GGUF", ".gguf"));
  EXPECT_FALSE(has_suffix("gguf", ".gguf"));
  EXPECT_EQ(nearest_name("--grop-size", {"--bits", "--group-size"}), "--group-size");
  EXPECT_EQ(nearest_name("--zzzzzzzz", {"--bits", "--group-size"}), std::nullopt);
}

TEST(Messages, TablesShowWhatWasMeasuredAndFit) {
  Table table({{"artifact"},
               {"bits", Table::Align::right, 2},
               {"ppl", Table::Align::right, 1},
               {"KL", Table::Align::right, 1}});
  table.add_row({"a-long-name", "4", "31.794 ± 0.851", "-"});
  table.add_row({"b", "8", "31.0", "-"});
  table.drop_unmeasured();
  EXPECT_THAT(table.text(), Not(HasSubstr("KL")));
  EXPECT_TRUE(table.fit(100).empty());
  EXPECT_THAT(table.fit(28), ElementsAre("bits"));
  EXPECT_THAT(table.fit(5), ElementsAre("ppl"));  // what has rank 0 stays, too wide or not
  EXPECT_EQ(table.text(), "artifact\na-long-name\nb\n");
}

}  // namespace
}  // namespace qwb
