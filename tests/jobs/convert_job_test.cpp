// A method quantizes anew what a format cannot hold, whichever format it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "formats/registry.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/jobs/convert_job.h"
#include "lib/jobs/quantize_job.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;

Json requantized(const Path& model, const char* format, const Path& place, const Json& given) {
  const Method& rtn = find_method("rtn");
  ConvertJob job({.model = model,
                  .format = format,
                  .requantize = &rtn,
                  .settings = resolve_settings(rtn, given)},
                 Context());
  job.write(place);
  return job.report();
}

std::vector<float> values_of(const OpenModel& open, const std::string& module) {
  const LoadedWeight loaded = open.source->load_quantized(module);
  std::vector<float> values(static_cast<size_t>(loaded.weight.count()));
  dequantize(loaded.weight, values.data());
  return values;
}

TEST(ConvertJob, AMethodQuantizesAnewForFilesAsForFolders) {
  const testing::Scratch scratch("convert_job");
  const Path artifact = scratch.path() / "nf4", folder = scratch.path() / "gptq",
             file = scratch.path() / "m.gguf";
  testing::make_artifact(testing::demo("llama"), "nf4", artifact, "");
  const Json grid = {{"bits", 4}, {"group_size", 32}};
  for (const auto& [format, place] : {std::pair{"gptq", folder}, std::pair{"gguf", file}})
    EXPECT_EQ(requantized(artifact, format, place, grid).at("counts").at("requantized"), 56);
  const OpenModel packed = open_model(folder), blocks = open_model(file);
  for (const std::string& module : packed.source->quantized_modules())
    EXPECT_EQ(values_of(packed, module), values_of(blocks, module)) << module;

  // Minimums that blocks round are refused when they show, and nothing is left.
  const Path other = scratch.path() / "other.gguf";
  try {
    requantized(artifact, "gguf", other, {{"bits", 4}, {"group_size", 32}, {"symmetric", false}});
    FAIL() << "was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    EXPECT_THAT(error.what(), HasSubstr("no exact type"));
  }
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path()))
    EXPECT_THAT(entry.path().filename().string(), ::testing::Not(HasSubstr("other")));
}

// The source is checked beside the work: nothing of a damaged one appears.
TEST(ConvertJob, ADamagedSourceLeavesNothing) {
  const testing::Scratch scratch("convert_damaged");
  const Path artifact = scratch.path() / "rtn";
  testing::make_artifact(testing::demo("gpt2"), "rtn", artifact, "");
  std::fstream file(artifact / "model.safetensors", std::ios::in | std::ios::out);
  file.seekg(-1, std::ios::end);
  const auto last = static_cast<char>(file.peek() ^ 1);
  file.seekp(-1, std::ios::end).put(last);
  file.close();
  for (const std::string format : {"gptq", "gguf", "huggingface"}) {
    const Path place = scratch.path() / ("to-" + format);
    try {
      ConvertJob job({.model = artifact, .format = format, .round_scales = true}, Context());
      job.write(place);
      FAIL() << format << " was made";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::verification) << error.what();
      EXPECT_THAT(error.what(), HasSubstr("model.safetensors"));
    }
  }
  const auto left = std::filesystem::directory_iterator(scratch.path());
  EXPECT_EQ(std::distance(begin(left), end(left)), 1);
}

}  // namespace
}  // namespace qwb
