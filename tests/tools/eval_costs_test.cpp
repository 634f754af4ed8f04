// qwb-eval's speed, memory and energy as a user asks for them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>

#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

class EvalCosts : public ToolTest {
 protected:
  // A short speed measurement.
  Json costs(std::vector<std::string> flags, const RunOptions& options = {}) const {
    flags.insert(flags.begin(),
                 {gpt2_, "--speed", "--pp", "16", "--tg", "4", "--repetitions", "2"});
    return json("eval", flags, options);
  }
  // A powercap tree whose package moves on by a step of real time while the tool runs.
  RunOptions powercap() const {
    const Path zone = file("powercap") / "intel-rapl:0";
    std::filesystem::create_directories(zone);
    std::ofstream(zone / "name") << "package-0\n";
    std::ofstream(zone / "max_energy_range_uj") << "262143328850\n";
    std::ofstream(zone / "energy_uj") << "1000\n";
    return {
        .environment = {{"QWB_POWERCAP", file("powercap").string()}, {"QWB_NVML", "libnone.so"}}};
  }
  static RunOptions no_counters() {
    return {.environment = {{"QWB_POWERCAP", "/nonexistent"}, {"QWB_NVML", "libnone.so"}}};
  }
  static constexpr const char* kMeter = "while true; do echo 80 W; sleep 0.02; done";
  static constexpr const char* kFastMeter =
      "while true; do echo 80 W; sleep 0.004; done";  // short windows
};

TEST_F(EvalCosts, EveryFlagHasHelp) {
  const std::string help = output("eval", {"--help"});
  for (const char* flag :
       {"--speed", "--pp", "--tg", "--depth", "--repetitions", "--output", "--energy", "--watts",
        "--meter", "--idle", "--energy-seconds", "--cooldown", "--fresh"})
    EXPECT_THAT(help, HasSubstr(flag));
}

TEST_F(EvalCosts, WrongFlagsAreUsageErrors) {
  const std::vector<std::vector<std::string>> wrong = {{"--speed", "--pp", "x"},
                                                       {"--speed", "--pp", "-1"},
                                                       {"--speed", "--tg", "99999999999999"},
                                                       {"--speed", "--depth", "1,x"},
                                                       {"--pp", "8"},
                                                       {"--tg", "8"},
                                                       {"--depth", "8"},
                                                       {"--speed", "--output", "xml"},
                                                       {"--speed", "--output", "csv", "--json"},
                                                       {"--output", "csv"},
                                                       {"--watts", "5"},
                                                       {"--meter", "true"},
                                                       {"--energy", "--idle", "-1"},
                                                       {"--energy", "--cooldown", "-1"},
                                                       {"--energy", "--energy-seconds", "x"},
                                                       {"--speed", "--pp", "0", "--tg", "0"},
                                                       {"--speed", "--pp", "513"},
                                                       {"--speed", "--depth", "512"}};
  for (std::vector<std::string> flags : wrong) {
    flags.insert(flags.begin(), gpt2_);
    const RunResult result = tool("eval", flags);
    EXPECT_EQ(result.code, 2) << flags[1] << " " << (flags.size() > 2 ? flags[2] : "")
                              << result.err;
    EXPECT_EQ(result.out, "");
  }
}

TEST_F(EvalCosts, TheRecordHasTheGrid) {
  const Json record = json("eval", {gpt2_, "--speed", "--pp", "16,32", "--tg", "4", "--depth",
                                    "0,64", "--repetitions", "3", "--threads", "1"});
  const Json& speed = record["speed"];
  ASSERT_EQ(speed["tests"].size(), 6u);
  EXPECT_EQ(speed["tests"][1]["name"], "pp32");
  EXPECT_EQ(speed["tests"][5]["name"], "tg4 @ d64");
  EXPECT_EQ(speed["tests"][5]["n_depth"], 64);
  EXPECT_EQ(speed["threads"], 1);
  for (const Json& test : speed["tests"]) {
    EXPECT_EQ(test["samples_ns"].size(), 3u);
    EXPECT_GT(test["median"].get<double>(), 0);
    EXPECT_GE(test["stddev"].get<double>(), 0);
  }
  EXPECT_EQ(speed["prefill"]["tokens"], 16);
  EXPECT_EQ(speed["prefill"]["median"], speed["tests"][0]["median"]);
  EXPECT_EQ(speed["decode"]["median"], speed["tests"][2]["median"]);
  EXPECT_GT(speed["load_to_first_token_seconds"].get<double>(),
            speed["load_seconds"].get<double>());
  EXPECT_NEAR(speed["first_token_seconds"]["median"].get<double>() *
                  speed["prefill"]["median"].get<double>(),
              16, 1e-6);
  EXPECT_EQ(speed["model"]["architecture"], "gpt2");
}

TEST_F(EvalCosts, TheRecordHasTheLedger) {
  const Json memory = costs({"--depth", "100"})["memory"];
  const Json config = parse_json(read_text(demo("gpt2") / "config.json"), "config");
  const int64_t kv =
      2 * config["n_layer"].get<int64_t>() * 116 * config["n_embd"].get<int64_t>() * 4;
  EXPECT_EQ(memory["kv_tokens"], 116);
  EXPECT_EQ(memory["kv_bytes"], kv);
  EXPECT_EQ(memory["ledger"]["kv_cache"]["peak"], kv);
  EXPECT_EQ(memory["ledger"]["kv_cache"]["now"], 0);
  EXPECT_EQ(memory["ledger"]["mapped_weights"]["peak"], memory["model"]["mapped_bytes"]);
  EXPECT_EQ(memory["model"]["mapped_bytes"].get<int64_t>() +
                memory["model"]["vector_bytes"].get<int64_t>(),
            memory["weight_bytes"].get<int64_t>());
  EXPECT_GT(memory["ledger"]["activations"]["peak"].get<int64_t>(), 0);
  EXPECT_GE(memory["ledger"]["allocated"]["peak"].get<int64_t>(), kv);
  EXPECT_TRUE(memory["quantize_peak_bytes"].is_null());
}

TEST_F(EvalCosts, ThePeakOfQuantizingIsShown) {
  const std::string artifact = file("int8").string();
  output("quantize", {"--model", gpt2_, "--method", "int8", "--out", artifact});
  const Json record =
      json("eval", {artifact, "--speed", "--pp", "8", "--tg", "0", "--repetitions", "1"});
  EXPECT_GT(record["memory"]["quantize_peak_bytes"].get<int64_t>(), 1'000'000);
  const RunResult table =
      tool("eval", {artifact, "--speed", "--pp", "8", "--tg", "0", "--repetitions", "1"});
  EXPECT_THAT(table.err, HasSubstr("quantizing took "));
  EXPECT_THAT(table.err, HasSubstr("memory at most: weights "));
}

TEST_F(EvalCosts, SpeedAsLlamaBenchPrintsIt) {
  const std::vector<std::string> flags = {gpt2_,     "--speed", "--pp",          "16", "--tg", "4",
                                          "--depth", "0,8",     "--repetitions", "2"};
  const auto with = [&](const char* format) {
    std::vector<std::string> all = flags;
    all.insert(all.end(), {"--output", format});
    return output("eval", all);
  };
  const Json rows = parse_json(with("json"), "json");
  ASSERT_EQ(rows.size(), 4u);
  for (const char* field :
       {"build_commit", "build_number", "cpu_info",       "gpu_info",  "backends", "model_filename",
        "model_type",   "model_size",   "model_n_params", "n_threads", "type_k",   "type_v",
        "n_prompt",     "n_gen",        "n_depth",        "test_time", "avg_ns",   "stddev_ns",
        "avg_ts",       "stddev_ts",    "samples_ns",     "samples_ts"})
    EXPECT_TRUE(rows[0].contains(field)) << field;
  EXPECT_EQ(rows[3]["n_gen"], 4);
  EXPECT_EQ(rows[3]["n_depth"], 8);
  const auto samples = rows[0]["samples_ns"].get<std::vector<double>>();
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_NEAR(rows[0]["avg_ns"].get<double>(), (samples[0] + samples[1]) / 2, 1);
  EXPECT_NEAR(rows[0]["avg_ts"].get<double>(), 16e9 / 2 * (1 / samples[0] + 1 / samples[1]), 1e-3);
  const auto jsonl = lines(with("jsonl"));
  ASSERT_EQ(jsonl.size(), 4u);
  EXPECT_EQ(parse_json(jsonl[0], "line"), rows[0]);  // kept from the first run
  const auto csv = lines(with("csv"));
  ASSERT_EQ(csv.size(), 5u);
  EXPECT_THAT(csv[0], HasSubstr("build_commit,build_number,cpu_info"));
  EXPECT_THAT(csv[1], HasSubstr("\"" + gpt2_ + "\""));
  EXPECT_THAT(csv[0], Not(HasSubstr("samples")));
  const auto md = lines(with("md"));
  ASSERT_EQ(md.size(), 6u);
  EXPECT_EQ(md[0], "| model | size | params | backend | threads | test | t/s |");
  EXPECT_THAT(md[5], HasSubstr("| tg4 @ d8 |"));
}

TEST_F(EvalCosts, RecordsBecomeSpeedTablesLater) {
  const std::string records = write("records", costs({}).dump() + "\n");
  EXPECT_EQ(lines(output("eval", {"--table", records, "--output", "csv"})).size(), 3u);
  const std::string broken = write("broken", R"({"schema": 2, "artifact": "a", "method": "none",
                                                 "speed": {"tests": [{}], "model": {}}})");
  std::string line = read_text(broken);
  line.erase(std::remove(line.begin(), line.end(), '\n'), line.end());
  EXPECT_EQ(tool("eval", {"--table", write("broken", line), "--output", "md"}).code, 1);
}

TEST_F(EvalCosts, TimingsAreKeptUntilFresh) {
  const Json first = costs({}), again = costs({});
  EXPECT_FALSE(first["speed"].contains("cached"));
  EXPECT_EQ(again["speed"]["cached"], true);
  EXPECT_EQ(again["speed"]["tests"], first["speed"]["tests"]);
  EXPECT_EQ(again["memory"]["ledger"], first["memory"]["ledger"]);
  EXPECT_NE(costs({"--fresh"})["speed"]["tests"], first["speed"]["tests"]);
  // Other work, other threads, another instruction set: another timing.
  EXPECT_FALSE(costs({"--threads", "1"})["speed"].contains("cached"));
  EXPECT_FALSE(costs({"--depth", "5"})["speed"].contains("cached"));
  EXPECT_FALSE(
      json("eval", {gpt2_, "--speed", "--pp", "16", "--tg", "4", "--repetitions", "3"})["speed"]
          .contains("cached"));
  EXPECT_FALSE(costs({}, {.environment = {{"QWB_ISA", "SSE4"}}})["speed"].contains("cached"));
  // The same content elsewhere is the same artifact; other content is not.
  const std::string copy = copy_demo("gpt2").string();
  const std::vector<std::string> flags = {copy,   "--speed", "--pp",          "16",
                                          "--tg", "4",       "--repetitions", "2"};
  EXPECT_EQ(json("eval", flags)["speed"]["cached"], true);
  std::fstream weights(copy + "/model.safetensors",
                       std::ios::in | std::ios::out | std::ios::binary);
  weights.seekp(-8, std::ios::end);
  weights.write("\0\0\0\0\0\0\0\0", 8);
  weights.close();
  EXPECT_FALSE(json("eval", flags)["speed"].contains("cached"));
}

TEST_F(EvalCosts, AnEstimateSaysSo) {
  const Json energy = costs({"--energy", "--watts", "33"}, no_counters())["energy"];
  EXPECT_EQ(energy["method"], "declared-power");
  EXPECT_EQ(energy["quality"], "estimated");
  EXPECT_NEAR(energy["watts"].get<double>(), 33, 1e-6);
  EXPECT_TRUE(energy["net_joules"].is_null());
  EXPECT_TRUE(energy["idle"].is_null());
  ASSERT_EQ(energy["windows"].size(), 3u);
  EXPECT_EQ(energy["windows"][2]["work"], "request");
  EXPECT_GT(energy["joules_per_request"]["gross"].get<double>(), 0);
  EXPECT_THAT(energy["reasons"].dump(), HasSubstr("has no processor package"));
  const Json model = costs({"--energy"}, no_counters())["energy"];
  EXPECT_EQ(model["method"], "cpu-time-model");
}

TEST_F(EvalCosts, AnExternalMeterIsTheTotal) {
  const Json energy =
      costs({"--energy", "--meter", kFastMeter, "--idle", "0.3", "--energy-seconds", "0.3"},
            no_counters())["energy"];
  EXPECT_EQ(energy["method"], "external-meter");
  EXPECT_EQ(energy["quality"], "measured");
  EXPECT_NEAR(energy["watts"].get<double>(), 80, 1);
  EXPECT_NEAR(energy["idle"]["watts"].get<double>(), 80, 1);
  EXPECT_EQ(energy["seconds_per_work"], 0.3);
  EXPECT_EQ(energy["counters"].size(), 1u);
  for (const Json& window : energy["windows"]) EXPECT_GE(window["seconds"].get<double>(), 0.3);
  const Json broken = costs(
      {"--energy", "--meter", "echo no plug >&2; exit 2", "--idle", "0", "--energy-seconds", "0"},
      no_counters())["energy"];
  EXPECT_EQ(broken["quality"], "estimated");
  EXPECT_THAT(broken["reasons"].dump(), HasSubstr("exit code 2: no plug"));
  EXPECT_TRUE(broken["idle"].is_null() || broken["idle"]["watts"].is_null());
}

// A counter that stands still gives no joules, and no zero.
TEST_F(EvalCosts, AFrozenCounterIsNoMeasurement) {
  const Json energy =
      costs({"--energy", "--idle", "0", "--energy-seconds", "0"}, powercap())["energy"];
  EXPECT_EQ(energy["quality"], "estimated");
  EXPECT_THAT(energy["reasons"].dump(), HasSubstr("intel-rapl:0 did not move"));
}

TEST_F(EvalCosts, SeveralModelsTakeTurns) {
  const RunResult result = tool("eval",
                                {gpt2_, llama_, "/nonexistent", "--speed", "--pp", "8", "--tg", "2",
                                 "--repetitions", "1", "--energy", "--watts", "30", "--json"},
                                no_counters());
  EXPECT_EQ(result.code, 3);
  const auto rows = lines(result.out);
  ASSERT_EQ(rows.size(), 2u);
  for (const std::string& row : rows) {
    const Json energy = parse_json(row, "row")["energy"];
    ASSERT_EQ(energy["windows"].size(), 3u);
    EXPECT_EQ(energy["windows"][0]["passes"], 3);
  }
  // Models lie in memory together only while their energy is measured.
  const Json last = parse_json(rows[1], "row")["memory"];
  EXPECT_EQ(last["ledger"]["mapped_weights"]["now"], last["model"]["mapped_bytes"]);
}

// By speed in turns, by perplexity one model after the other.
TEST_F(EvalCosts, AnotherModelsWorkWaitsUntilTheMachineIsCool) {
  const std::string text = write("text.txt", read_text(demo("text/eval.txt")).substr(0, 4000));
  const std::string copy = copy_demo("gpt2").string();
  for (const std::vector<std::string>& work :
       {std::vector<std::string>{"--speed", "--pp", "8", "--tg", "0", "--repetitions", "1"},
        std::vector<std::string>{"--ppl", "--context", "64", "--windows", "2", "--text", text}}) {
    std::vector<std::string> flags = {gpt2_,      copy,         "--energy", "--energy-seconds",
                                      "0",        "--idle",     "0",        "--meter",
                                      kFastMeter, "--cooldown", "0.4",      "--json"};
    flags.insert(flags.end(), work.begin(), work.end());
    const auto rows = lines(output("eval", flags, no_counters()));
    ASSERT_EQ(rows.size(), 2u);
    const auto cooldown = [&](size_t row) {
      return parse_json(rows[row], "row")["energy"]["cooldown"];
    };
    EXPECT_EQ(cooldown(1)["seconds"], 0.4);
    EXPECT_GE(cooldown(1)["rested_seconds"].get<double>(), 0.4) << work[0];
    if (work[0] == "--ppl") {
      EXPECT_EQ(cooldown(0)["rested_seconds"], 0);
    }
  }
}

TEST_F(EvalCosts, EnergyIsKeptUntilFreshToo) {
  const std::vector<std::string> flags = {"--energy", "--watts", "33"};
  const Json first = costs(flags, no_counters())["energy"],
             again = costs(flags, no_counters())["energy"];
  EXPECT_EQ(again["cached"], true);
  EXPECT_EQ(again["windows"], first["windows"]);
  EXPECT_FALSE(costs({"--energy", "--watts", "34"}, no_counters())["energy"].contains("cached"));
  EXPECT_FALSE(
      costs({"--energy", "--watts", "33", "--cooldown", "9"}, no_counters())["energy"].contains(
          "cached"));
  const auto metered = [&](const std::string& meter, const char* seconds) {
    return json("eval",
                {gpt2_, "--speed", "--pp", "8", "--tg", "0", "--repetitions", "1", "--energy",
                 "--idle", "0", "--energy-seconds", seconds, "--meter", meter},
                no_counters())["energy"]
        .contains("cached");
  };
  EXPECT_FALSE(metered(kFastMeter, "0"));
  EXPECT_TRUE(metered(kFastMeter, "0"));
  EXPECT_FALSE(metered(kFastMeter, "0.1"));
  EXPECT_FALSE(metered(std::string(kFastMeter) + " # another", "0"));
  EXPECT_FALSE(
      costs({"--energy", "--watts", "33", "--fresh"}, no_counters())["energy"].contains("cached"));
}

// Figures are worth more than their place in the cache.
TEST_F(EvalCosts, WithoutWriteAccessFiguresAreStillPrinted) {
  const std::string place = write("no-folder", "a file where the cache should be");
  const Json record = costs({}, {.environment = {{"QWB_CACHE", place}}});
  EXPECT_GT(record["speed"]["prefill"]["median"].get<double>(), 0);
}

TEST_F(EvalCosts, CtrlCStopsTheMeterToo) {
  const std::string alive = file("alive").string();
  const std::string meter = "while true; do echo 80 W; date +%N >" + alive + "; sleep 0.02; done";
  const RunResult result =
      tool("eval", {gpt2_, "--speed", "--energy", "--meter", meter, "--idle", "60"},
           {.signals = {SIGINT}, .ready = "idle power"});
  EXPECT_EQ(result.code, 130);
  const std::string last = read_text(alive);
  usleep(150'000);
  EXPECT_EQ(read_text(alive), last);
}

}  // namespace
}  // namespace qwb::testing
