#include "lib/base/json.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/error.h"

namespace qwb {
namespace {

TEST(Json, ReadsAndWritesPythonsConstants) {
  const Json json = parse_json(
      R"({"a": [NaN, Infinity, -Infinity, 1.5], "b": "NaN Infinity \" -Infinity", "c\"": NaN})",
      "x");
  EXPECT_TRUE(std::isnan(json["a"][0].get<double>()));
  EXPECT_EQ(json["a"][1].get<double>(), INFINITY);
  EXPECT_EQ(json["a"][2].get<double>(), -INFINITY);
  EXPECT_EQ(json["b"], "NaN Infinity \" -Infinity");
  EXPECT_TRUE(std::isnan(json["c\""].get<double>()));
  EXPECT_EQ(json_canonical(json),
            R"({"a":[NaN,Infinity,-Infinity,1.5],"b":"NaN Infinity \" -Infinity","c\"":NaN})");
  EXPECT_TRUE(std::isnan(parse_json(json_text(json), "x")["a"][0].get<double>()));
  EXPECT_EQ(json_canonical(parse_json(R"({"b": 1, "a": null})", "x")), R"({"a":null,"b":1})");
}

TEST(Json, RefusesConstantsWhereANumberMatters) {
  const Json json = parse_json(R"({"a": NaN, "b": Infinity, "c": -Infinity})", "x");
  for (const char* key : {"a", "b", "c"}) {
    EXPECT_THROW(json_number(json, key, "x"), Error);
    EXPECT_THROW(json_int(json, key, "x"), Error);
    EXPECT_THROW(json_number(json, key, "x", 1.0), Error);
  }
}

TEST(Json, RefusesOtherWords) {
  for (const char* text : {"nan", "inf", "NAN", "-NaN", "+Infinity", "NaNs", "{\"a\": Infinit}",
                           "[1, NaN NaN]", "{NaN: 1}", "INFINITY"})
    EXPECT_THROW(parse_json(text, "x"), Error) << text;
  EXPECT_TRUE(std::isnan(parse_json("NaN", "x").get<double>()));
}

}  // namespace
}  // namespace qwb
