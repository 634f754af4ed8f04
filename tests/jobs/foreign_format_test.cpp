// A format from outside of the product goes the whole way: it is named by the tools' help, written,
// detected, read and converted again, and refuses by name what it cannot hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "formats/registry.h"
#include "lib/jobs/convert_job.h"
#include "lib/jobs/quantize_job.h"
#include "lib/jobs/requantize.h"
#include "tests/evaluate/artifact_helper.h"
#include "tests/jobs/rows_format_helper.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

QuantizeRequest by_method(const char* name) {
  return {.model = testing::demo("llama"), .plan = {.method = &find_method(name)}};
}

bool convert_to(const char* format, const Path& model, const Path& place) {
  ConvertJob job({.model = model, .format = format}, Context());
  job.write(place);
  return job.report().at("exact").get<bool>();
}

TEST(ForeignFormat, GoesTheWholeWay) {
  const testing::Scratch scratch("foreign_format");
  const Context context;
  EXPECT_THAT(format_help(), Not(HasSubstr("\nrows: ")));
  EXPECT_THROW(find_format("rows"), Error);

  add_format(testing::rows_format());

  // What qwb-convert --help and --to show and take.
  EXPECT_THAT(format_help(), HasSubstr("\nrows: a signed byte for each code"));
  EXPECT_THAT(format_names(), HasSubstr("rows, "));

  const Path artifact = scratch.path() / "artifact", rows = scratch.path() / "rows",
             back = scratch.path() / "back", bitsandbytes = scratch.path() / "bnb";
  const QuantizeJob int8(by_method("int8"), context), nf4(by_method("nf4"), context);
  // As qwb-quantize --format asks before the work.
  EXPECT_NO_THROW(check_plan_fits(int8.plan(), int8.source(), find_format("ROWS")));
  try {
    check_plan_fits(nf4.plan(), nf4.source(), find_format("rows"));
    FAIL() << "was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    EXPECT_THAT(error.what(), HasSubstr("has no rows of int8"));
  }
  int8.write(artifact, context);
  EXPECT_TRUE(convert_to("rows", artifact, rows));
  EXPECT_TRUE(detect_model(rows));
  const OpenModel before = open_model(artifact), after = open_model(rows);
  EXPECT_EQ(after.format, "rows");
  EXPECT_EQ(after.config.at("quantization_config").at("modules"), 56);
  ASSERT_EQ(after.source->quantized_modules(), before.source->quantized_modules());
  for (const std::string& module : before.source->quantized_modules()) {
    const Weight x = before.source->quantized(module).value();
    const Weight y = after.source->quantized(module).value();
    const auto& a = x.get<Int8Rows>();
    const auto& b = y.get<Int8Rows>();
    EXPECT_TRUE(std::ranges::equal(a.codes.bytes, b.codes.bytes)) << module;
    EXPECT_TRUE(std::ranges::equal(a.absmax.bytes, b.absmax.bytes)) << module;
  }
  EXPECT_TRUE(convert_to("bitsandbytes", rows, bitsandbytes));
  EXPECT_TRUE(convert_to("qwb", bitsandbytes, back));
  EXPECT_EQ(read_text(back / "model.safetensors"), read_text(artifact / "model.safetensors"));
}

}  // namespace
}  // namespace qwb
