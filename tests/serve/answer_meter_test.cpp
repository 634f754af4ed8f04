// Joules of answers: parts, shares, and when there is no figure.
#include "lib/serve/api/answer_meter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "lib/serve/api/routes.h"
#include "tests/serve/demo_model_helper.h"
#include "tests/serve/exchange_helper.h"

namespace qwb::serve {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

JobCounts counts_of(int64_t generated, double busy) {
  JobCounts counts;
  counts.generated_tokens = generated;
  counts.busy_seconds = busy;
  return counts;
}

void work_for(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

// Without counters, and with the power of the machine declared: an estimate of known joules.
EnergyOptions declared() {
  EnergyOptions options;
  options.declared_watts = 100;
  options.powercap = options.perf.events = "/nonexistent";
  options.nvml_library = "";
  return options;
}

TEST(AnswerMeter, PartsOfAnAnswerAddUp) {
  AnswerMeter meter(declared(), 0, {});
  EXPECT_EQ(meter.about()["measures"], false);
  const int64_t measurement = meter.begin({});
  ASSERT_NE(measurement, 0);
  EXPECT_EQ(meter.begin({}), 0);  // one at a time
  work_for(20);
  meter.prefill_ended(measurement - 1);  // comes too late from another
  meter.prefill_ended(measurement);
  work_for(40);
  EngineLoad after;
  after.requests = 1;
  const Json energy = meter.end(after, 1, counts_of(5, 0));
  EXPECT_EQ(energy["quality"], "estimated");
  EXPECT_EQ(energy["method"], "declared-power");
  EXPECT_NEAR(energy["joules"], 100 * energy["seconds"].get<double>(), 1e-6);
  const double prefill = energy["prefill"]["joules"], decode = energy["decode"]["joules"];
  EXPECT_GE(prefill, 2);
  EXPECT_GE(decode, 4);
  EXPECT_NEAR(prefill + decode, energy["joules"], 1e-9);
  EXPECT_NEAR(energy["decode"]["joules_per_token"], decode / 4, 1e-9);
}

TEST(AnswerMeter, JoulesOfSeveralAreSharedOrRefused) {
  AnswerMeter meter(declared(), 0, {});
  EngineLoad before, after;
  before.requests = 7;
  after.requests = 9;
  ASSERT_NE(meter.begin(before), 0);
  work_for(10);
  const auto parts = meter.end_shared(after, 2, {counts_of(5, 1), counts_of(5, 3)});
  ASSERT_EQ(parts.size(), 2u);
  for (const Json& part : parts) EXPECT_EQ(part["quality"], "shared, estimated");
  EXPECT_NEAR(parts[1]["joules"], 3 * parts[0]["joules"].get<double>(), 1e-9);
  ASSERT_NE(meter.begin(before), 0);
  const Json beside = meter.end(after, 1, counts_of(5, 0));
  EXPECT_TRUE(beside["joules"].is_null());
  EXPECT_THAT(beside["reason"].get<std::string>(), HasSubstr("other requests"));
  before.running = 1;
  ASSERT_NE(meter.begin(before), 0);
  EXPECT_TRUE(meter.end(after, 2, counts_of(5, 0))["joules"].is_null());
}

// A meter with a reading every 20 ms: fifty of them take a second.
TEST(AnswerMeter, AMeasuredAnswerMayBeTooShort) {
  EnergyOptions options = declared();
  options.meter_command = "while :; do echo 50 W; sleep 0.02; done";
  AnswerMeter meter(options, 0, {});
  EXPECT_EQ(meter.about()["measures"], true);
  EXPECT_GT(meter.about()["least_seconds"], 0.9);
  ASSERT_NE(meter.begin({}), 0);
  work_for(100);
  EngineLoad after;
  after.requests = 1;
  const Json energy = meter.end(after, 1, counts_of(5, 0));
  EXPECT_TRUE(energy["joules"].is_null());
  EXPECT_THAT(energy["reason"].get<std::string>(), HasSubstr("too short"));
  EXPECT_NEAR(energy["short"], 50 * energy["seconds"].get<double>(), 0.5);
  EXPECT_EQ(energy["quality"], "measured");
}

// What OpenAI's clients ask is measured too, while nothing else runs.
TEST(AnswerMeter, AnswersOfTheOpenAiRoutesTellTheirs) {
  std::vector<ServedModel> models;
  models.push_back(demo_model());
  const auto meter = std::make_shared<AnswerMeter>(declared(), 0, Context());
  Service service(std::move(models),
                  {.engine = demo_limits(), .max_tokens = {}, .base = {}, .meter = meter});
  const auto ask = [&](const std::string& more) {
    const auto exchange = std::make_shared<MemoryExchange>(
        "/v1/completions",
        R"({"prompt": "The history", "max_tokens": 3, "temperature": 0)" + more + "}");
    handle(*find_route("POST", "/v1/completions").route, service, exchange);
    exchange->wait();
    return exchange->text;
  };
  for (int i = 0; i < 2; ++i) {
    const Json energy = Json::parse(ask(""))["qwb"]["energy"];
    EXPECT_GT(energy["joules"], 0);
    EXPECT_GT(energy["decode"]["joules_per_token"], 0);
    EXPECT_EQ(energy["quality"], "estimated");
  }
  EXPECT_THAT(ask(R"(, "stream": true, "stream_options": {"include_usage": true})"),
              HasSubstr("\"energy\":{\"joules\":"));
  EXPECT_THAT(ask(R"(, "stream": true)"), Not(HasSubstr("energy")));
  ASSERT_NE(meter->begin({}), 0);  // nobody's windows stayed open
  EXPECT_FALSE(Json::parse(ask(""))["qwb"].contains("energy"));
}

}  // namespace
}  // namespace qwb::serve
