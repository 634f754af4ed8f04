// Calibration sets from several texts, and on disk.
#include "lib/quantize/calibrate/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <numeric>

#include "lib/base/error.h"
#include "tests/base/context_helper.h"
#include "tests/quantize/demo_helper.h"

namespace qwb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Counts = std::vector<int64_t>;

TEST(Apportion, FollowsTheWeights) {
  EXPECT_THAT(apportion({1}, {200}, 128), ElementsAre(128));
  EXPECT_THAT(apportion({1}, {100}, 128), ElementsAre(100));
  EXPECT_THAT(apportion({1, 1}, {200, 200}, 128), ElementsAre(64, 64));
  EXPECT_THAT(apportion({1, 2}, {200, 200}, 128), ElementsAre(43, 85));  // 42.67, 85.33
  EXPECT_THAT(apportion({1, 1, 1}, {200, 200, 200}, 128), ElementsAre(43, 43, 42));
  EXPECT_THAT(apportion({0.5, 1.5}, {9, 9}, 8), ElementsAre(2, 6));
  EXPECT_THAT(apportion({1, 1000}, {9, 99}, 8), ElementsAre(0, 8));
}

TEST(Apportion, WhatOneLacksTheOthersGive) {
  EXPECT_THAT(apportion({1, 1}, {10, 200}, 128), ElementsAre(10, 118));
  EXPECT_THAT(apportion({2, 1, 1}, {8, 200, 200}, 128), ElementsAre(8, 60, 60));
  EXPECT_THAT(apportion({1, 1}, {10, 20}, 128), ElementsAre(10, 20));
  EXPECT_THAT(apportion({1, 1, 1}, {0, 1, 300}, 100), ElementsAre(0, 1, 99));
  for (int64_t samples = 1; samples < 60; ++samples) {
    const Counts available = {3, 17, 11, 29};
    const Counts counts = apportion({5, 1, 0.25, 2}, available, samples);
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}), samples);
    for (size_t i = 0; i < counts.size(); ++i) EXPECT_LE(counts[i], available[i]);
  }
}

TEST(CalibrationSourceText, NameAndWeight) {
  const auto parsed = [](const std::string& text) {
    const CalibrationSource source = parse_calibration_source(text);
    return source.name + " " + Json(source.weight).dump();
  };
  EXPECT_EQ(parsed("demo"), "demo 1.0");
  EXPECT_EQ(parsed("demo:2"), "demo 2.0");
  EXPECT_EQ(parsed("a/b.jsonl:0.5"), "a/b.jsonl 0.5");
  EXPECT_EQ(parsed("x:y"), "x:y 1.0");
  EXPECT_EQ(parsed("x:"), "x: 1.0");
  for (const char* wrong : {"demo:0", "demo:-1", "demo:nan", "demo:inf"})
    EXPECT_THROW(parse_calibration_source(wrong), Error) << wrong;
}

class Notes : public Progress {
 public:
  void note(const std::string& text) override { all += text + "\n"; }
  std::string all;
};

class CalibrationTest : public ::testing::Test {
 protected:
  CalibrationTest()
      : folder_(std::filesystem::temp_directory_path() /
                ("qwb_calibration_" + std::to_string(getpid()))),
        tokenizer_(Tokenizer::load(source_path("recipes/demo/llama"))) {
    std::filesystem::create_directories(folder_);
    const std::string text = read_text(source_path("recipes/demo/text/eval.txt"));
    write("a.txt", text.substr(0, 20'000));
    write("b.txt", text.substr(30'000, 20'000));
    write("short.txt", text.substr(60'000, 600));
  }
  ~CalibrationTest() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary | std::ios::trunc) << text;
  }
  // Sources by name and weight, 32 windows of 16 tokens.
  CalibrationSet make(const std::vector<CalibrationSource>& sources,
                      std::optional<uint64_t> seed = {}) {
    CalibrationRequest request;
    std::vector<Path> files;
    for (const CalibrationSource& source : sources) {
      request.sources.push_back({(folder_ / source.name).string(), source.weight});
      files.emplace_back(folder_ / source.name);
    }
    request.samples = 32;
    request.length = 16;
    request.seed = seed;
    notes_.all.clear();
    return make_calibration_set(request, files, tokenizer_, {}, context_telling(notes_));
  }
  std::string error_of(ErrorKind kind, const std::function<void()>& call) const {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return {};
  }
  const Path folder_;
  const Tokenizer tokenizer_;
  Notes notes_;
};

TEST_F(CalibrationTest, SeveralTextsInProportion) {
  const CalibrationSet a = make({{"a.txt"}}), b = make({{"b.txt"}});
  const CalibrationSet both = make({{"a.txt", 1}, {"b.txt", 3}});
  ASSERT_EQ(both.windows.size(), 32u);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(both.windows[i], a.windows[i]);
  for (size_t i = 0; i < 24; ++i) EXPECT_EQ(both.windows[8 + i], b.windows[i]);
  EXPECT_EQ(both.name, "a.txt+b.txt");
  EXPECT_EQ(both.manifest["sources"][1]["windows"], 24);
  EXPECT_EQ(both.manifest["sources"][1]["weight"], 3);
  EXPECT_FALSE(a.manifest.contains("sources"));
  EXPECT_EQ(both.manifest["tokenizer"], tokenizer_.content_hash());
  EXPECT_NE(both.hash, make({{"a.txt", 1}, {"b.txt", 1}}).hash);
  EXPECT_THAT(notes_.all, IsEmpty());
  // Equal weights are equal weights, however they are written.
  EXPECT_EQ(make({{"a.txt", 2}, {"b.txt", 6}}).hash, both.hash);
}

TEST_F(CalibrationTest, SeededDrawsAreDisjointAndRepeatable) {
  const CalibrationSet drawn = make({{"a.txt"}, {"b.txt"}}, 7);
  EXPECT_EQ(make({{"a.txt"}, {"b.txt"}}, 7).hash, drawn.hash);
  EXPECT_NE(make({{"a.txt"}, {"b.txt"}}, 8).hash, drawn.hash);
  EXPECT_NE(make({{"a.txt"}, {"b.txt"}}).hash, drawn.hash);
  auto windows = drawn.windows;
  std::sort(windows.begin(), windows.end());
  EXPECT_EQ(std::unique(windows.begin(), windows.end()), windows.end());
}

TEST_F(CalibrationTest, ShortagesAreTold) {
  const CalibrationSet set = make({{"short.txt"}, {"a.txt"}});
  EXPECT_EQ(set.windows.size(), 32u);
  EXPECT_LT(set.manifest["sources"][0]["windows"].get<int>(), 16);
  EXPECT_THAT(notes_.all, HasSubstr("short.txt has only"));
  make({{"a.txt", 1}, {"b.txt", 1000}});
  EXPECT_THAT(notes_.all, HasSubstr("a.txt gives no window"));
  write("empty.txt", "");
  EXPECT_THAT(error_of(ErrorKind::failed,
                       [&] {
                         make({{"a.txt"}, {"empty.txt"}});
                       }),
              HasSubstr("empty.txt"));
  EXPECT_THAT(error_of(ErrorKind::usage,
                       [&] {
                         make({{"a.txt"}, {"a.txt"}});
                       }),
              HasSubstr("given twice"));
}

TEST_F(CalibrationTest, SavedAndReadBackItIsTheSame) {
  const CalibrationSet set = make({{"a.txt", 1}, {"b.txt", 3}}, 3);
  write("set.qwbcalib", calibration_set_text(set));
  const CalibrationSet back = load_calibration_set(folder_ / "set.qwbcalib", tokenizer_);
  EXPECT_EQ(back.windows, set.windows);
  EXPECT_EQ(back.hash, set.hash);
  EXPECT_EQ(back.name, set.name);
  EXPECT_EQ(back.length, set.length);
  EXPECT_EQ(back.manifest.dump(), set.manifest.dump());
  // The ids mean something else to another tokenizer.
  const Tokenizer other = Tokenizer::load(source_path("recipes/demo/gpt2"));
  EXPECT_THAT(
      error_of(ErrorKind::usage, [&] { load_calibration_set(folder_ / "set.qwbcalib", other); }),
      HasSubstr("another tokenizer"));
}

TEST_F(CalibrationTest, DamagedSetsAreRefused) {
  const std::string text = calibration_set_text(make({{"a.txt"}}));
  const Json json = parse_json(text, "set");
  const auto refused = [&](ErrorKind kind, const std::string& content) {
    write("bad.qwbcalib", content);
    return error_of(kind, [&] { load_calibration_set(folder_ / "bad.qwbcalib", tokenizer_); });
  };
  const auto with = [&](const char* pointer, const Json& value) {
    Json changed = json;
    changed[Json::json_pointer(pointer)] = value;
    return changed.dump();
  };
  EXPECT_THAT(refused(ErrorKind::unsupported, with("/version", 2)), HasSubstr("version 2"));
  EXPECT_THAT(refused(ErrorKind::failed, with("/windows/3/5", 17)),
              HasSubstr("not those that were saved"));
  EXPECT_THAT(refused(ErrorKind::failed, with("/windows/3", Json::array({1, 2}))),
              HasSubstr("window 4"));
  EXPECT_THAT(refused(ErrorKind::failed, with("/windows/0/0", -1)), HasSubstr("no token id"));
  EXPECT_THAT(refused(ErrorKind::failed, with("/windows/0/0", 3e10)), HasSubstr("no token id"));
  EXPECT_THAT(refused(ErrorKind::failed, with("/windows/0/0", "a")), HasSubstr("no token id"));
  refused(ErrorKind::failed, with("/windows", Json::array()));
  refused(ErrorKind::failed, with("/windows", 3));
  refused(ErrorKind::failed, with("/format", "x"));
  refused(ErrorKind::failed, with("/manifest/length", 1));
  refused(ErrorKind::failed, with("/manifest/hash", 1));
  refused(ErrorKind::failed, with("/manifest", nullptr));
  refused(ErrorKind::failed, "[]");
  for (size_t cut = 0; cut + 3 < text.size(); cut += 97)
    refused(ErrorKind::failed, text.substr(0, cut));
}

}  // namespace
}  // namespace qwb
