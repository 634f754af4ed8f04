#include "tools/common/quantities.h"

#include <gtest/gtest.h>

#include "lib/base/error.h"

namespace qwb {
namespace {

TEST(Quantities, Bytes) {
  EXPECT_EQ(parse_bytes("0"), 0);
  EXPECT_EQ(parse_bytes("512"), 512);
  EXPECT_EQ(parse_bytes("512B"), 512);
  EXPECT_EQ(parse_bytes("10GB"), 10'000'000'000);
  EXPECT_EQ(parse_bytes("10 gb"), 10'000'000'000);
  EXPECT_EQ(parse_bytes("1.5k"), 1500);
  EXPECT_EQ(parse_bytes("2MiB"), 2 << 20);
  EXPECT_EQ(parse_bytes("1TiB"), int64_t{1} << 40);
  for (const char* wrong : {"", "GB", "-1", "-1GB", "1XB", "1 2", "nan", "inf", "1e300", "10GBs"}) {
    EXPECT_THROW(parse_bytes(wrong), Error) << wrong;
  }
}

TEST(Quantities, Ages) {
  EXPECT_EQ(parse_age("90s"), 90);
  EXPECT_EQ(parse_age("15m"), 900);
  EXPECT_EQ(parse_age("12h"), 43'200);
  EXPECT_EQ(parse_age("30d"), 2'592'000);
  EXPECT_EQ(parse_age("0.5w"), 302'400);
  for (const char* wrong : {"", "d", "-1d", "1y", "1d2"})
    EXPECT_THROW(parse_age(wrong), Error) << wrong;
}

TEST(Quantities, TimesAreLocal) {
  ::setenv("TZ", "UTC-2", 1);  // POSIX: two hours east
  ::tzset();
  EXPECT_EQ(local_time(0), "1970-01-01 02:00");
  ::unsetenv("TZ");
  ::tzset();
}

}  // namespace
}  // namespace qwb
