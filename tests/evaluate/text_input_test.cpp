// Every reader of texts that people give refuses what is no text: --text, --calib, tasks (the
// prompt: tests/tools).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/evaluate/tasks/task.h"
#include "lib/evaluate/text.h"
#include "lib/quantize/calibrate/calibration.h"

namespace qwb {
namespace {

using namespace std::string_literals;

class TextInputs : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  Path file(const std::string& name, const std::string& bytes) const {
    write_file_atomically(folder_ / name, as_bytes(bytes));
    return folder_ / name;
  }
  // The errors of the three readers for one file.
  std::vector<std::string> refusals(const Path& path) const {
    TaskOptions task;
    task.name = "piqa";
    task.file = path;
    const std::function<void()> readers[] = {[&] { read_evaluation_text(path); },
                                             [&] { calibration_texts(path, {}); },
                                             [&] { load_task(task); }};
    std::vector<std::string> all;
    for (const auto& read : readers) {
      try {
        read();
        all.emplace_back("taken");
      } catch (const Error& error) {
        all.emplace_back(error.what());
      }
    }
    return all;
  }
  Path folder_ = Path(::testing::TempDir()) / ("qwb_text_inputs_" + std::to_string(::getpid()));
};

TEST_F(TextInputs, AreRefusedByNameByEveryReader) {
  const std::pair<std::string, const char*> kFiles[] = {
      {"\xff\xfeh\0i\0"s, "UTF-16"}, {"d\xe9j\xe0 vu"s, "byte 1 (0xE9"},
      {"\x1f\x8b\x08\0"s, "gzip"},   {"PAR1...."s, "parquet"},
      {"GGUF\x03\0\0\0"s, "GGUF"},   {"PK\x03\x04...."s, "zip"}};
  for (const auto& [bytes, name] : kFiles) {
    for (const char* as : {"a.txt", "b.TXT", "c.jsonl", "d.raw"})
      EXPECT_THAT(refusals(file(as, bytes)), ::testing::Each(::testing::HasSubstr(name))) << as;
  }
  EXPECT_THAT(refusals(folder_), ::testing::Each(::testing::HasSubstr("is a folder")));
}

TEST_F(TextInputs, ByteOrderMarksAndSuffixes) {
  const std::string row = "{\"text\": \"caf\xc3\xa9\\r\\n\", \"score\": NaN}\n";
  for (const char* name : {"a.JSONL", "a.jsonl", "a.Ndjson"}) {
    const Path rows = file(name, "\xef\xbb\xbf" + row);
    EXPECT_EQ(read_evaluation_text(rows).documents[0].text, "caf\xc3\xa9\r\n");
    EXPECT_EQ(calibration_texts(rows, {}).texts, std::vector<std::string>{"caf\xc3\xa9\r\n"});
  }
  const Path plain = file("a.TXT", "\xef\xbb\xbfline\r\nline\r\n");
  EXPECT_EQ(read_evaluation_text(plain).whole, "line\r\nline\r\n");
  EXPECT_EQ(calibration_texts(plain, {}).texts, std::vector<std::string>{"line\r\nline\r\n"});
  EXPECT_THROW(read_evaluation_text(file("a.json", "[]")), Error);
  EXPECT_THROW(calibration_texts(file("b.JSON", "[]"), {}), Error);
  EXPECT_THROW(read_evaluation_text(file("empty.txt", "")), Error);
}

// Rows are read alike to measure on and to calibrate with; turns only to calibrate with.
TEST_F(TextInputs, RowsWithTheirTextInOtherFields) {
  for (const char* field : {"text", "page", "content"}) {
    const Path rows =
        file("a.jsonl", "{\"id\": 1, \"" + std::string(field) + "\": \"some words\"}\n");
    EXPECT_EQ(read_evaluation_text(rows).documents.at(0).text, "some words") << field;
    EXPECT_EQ(calibration_texts(rows, {}).texts, std::vector<std::string>{"some words"}) << field;
  }
  const std::pair<const char*, const char*> kTurns[] = {
      {R"({"messages": [{"role": "user", "content": "q"}], "content": "x"})", "q"},
      {R"({"prompt": "q", "completion": "a"})", "q\n\na"},
      {R"({"instruction": "q", "input": "", "output": "a"})", "q\n\na"}};
  for (const auto& [row, text] : kTurns) {
    const auto told = refusals(file("b.jsonl", row));
    EXPECT_THAT(told[0], ::testing::HasSubstr("b.jsonl:1: the row is a conversation")) << row;
    EXPECT_THAT(told[0], ::testing::HasSubstr("text, page or content")) << row;
    EXPECT_EQ(calibration_texts(folder_ / "b.jsonl", {}).texts, std::vector<std::string>{text});
  }
  for (const char* row :
       {R"({"code": "x"})", R"({"role": "user", "content": "x"})", "[1]", R"({"text": null})"}) {
    const auto told = refusals(file("c.jsonl", row));
    EXPECT_THAT(told[0], ::testing::HasSubstr("the row has no text")) << row;
    EXPECT_THAT(told[0], ::testing::HasSubstr("text, page or content")) << row;
    EXPECT_THAT(told[1], ::testing::HasSubstr("text, page or content")) << row;
  }
  EXPECT_THAT(refusals(file("d.jsonl", R"({"text": null})"))[0],
              ::testing::HasSubstr("it has text (null)"));
}

}  // namespace
}  // namespace qwb
