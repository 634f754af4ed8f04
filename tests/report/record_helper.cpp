#include "tests/report/record_helper.h"

namespace qwb::testing {

Json size_record(const std::string& artifact, const std::string& method, int64_t bytes,
                 double bpw) {
  return {{"schema", 2},
          {"artifact", artifact},
          {"int8_forward", nullptr},
          {"method", method},
          {"bits", 4},
          {"bpw", bpw},
          {"bytes", bytes},
          {"perplexity", nullptr},
          {"divergence", nullptr},
          {"tasks", nullptr},
          {"speed", nullptr},
          {"memory", nullptr},
          {"energy", nullptr},
          {"problems", Json::array()}};
}

Json loss_record(const std::string& artifact, const std::string& method, int64_t bytes,
                 double value, double ratio, double error) {
  Json record = size_record(artifact, method, bytes, static_cast<double>(bytes) / 1e6);
  const auto interval = [](double x, double e) { return Json::array({x - 2 * e, x + 2 * e}); };
  record["perplexity"] = {{"protocol", "windows"},
                          {"context", 1024},
                          {"stride", nullptr},
                          {"tokens", 4092},
                          {"windows", 4},
                          {"documents", 1},
                          {"value", value},
                          {"stderr", 20 * error},
                          {"interval", interval(value, 20 * error)},
                          {"ratio", nullptr},
                          {"ratio_stderr", nullptr},
                          {"ratio_interval", nullptr},
                          {"baseline_value", nullptr},
                          {"baseline", nullptr},
                          {"text_hash", "0123456789abcdef"},
                          {"token_hash", "fedcba9876543210"}};
  if (ratio != 0) {
    record["perplexity"]["ratio"] = ratio;
    record["perplexity"]["ratio_stderr"] = error;
    record["perplexity"]["ratio_interval"] = interval(ratio, error);
    record["perplexity"]["baseline_value"] = 30;
    record["perplexity"]["baseline"] = "/models/original";
  }
  return record;
}

Json speed_record(const std::string& artifact, double rate, double least, double most) {
  Json record = size_record(artifact, "rtn", 1000, 4);
  const Json spread = {
      {"tokens", 16}, {"depth", 0}, {"median", rate}, {"min", least}, {"max", most}};
  record["speed"] = {{"load_seconds", 0.5}, {"threads", 2},
                     {"isa", "AVX2"},       {"cpu", "a processor"},
                     {"repetitions", 5},    {"decode", spread},
                     {"prefill", nullptr},  {"first_token_seconds", nullptr}};
  return record;
}

void add_divergence(Json& record, double kl, double error) {
  const Json estimate = {{"value", kl},
                         {"stderr", error},
                         {"interval", Json::array({kl - 2 * error, kl + 2 * error})}};
  record["divergence"] = {
      {"protocol", "windows"}, {"context", 1024},          {"tokens", 4092},
      {"windows", 4},          {"mean_kl", estimate},      {"kl_quantiles", {{"p99", 9 * kl}}},
      {"same_top", nullptr},   {"token_hash", "fedcba98"}, {"baseline", "/models/original"}};
}

void add_joules(Json& record, double joules, double least, double most,
                const std::string& quality) {
  const Json window = {{"work", "decode"}, {"n_prompt", 0},       {"n_gen", 16},
                       {"n_depth", 0},     {"quality", quality},  {"method", "some-meter"},
                       {"device", "cpu"},  {"domain", "package"}, {"remark", nullptr}};
  record["energy"] = {{"joules", 100 * joules},
                      {"joules_per_generated_token",
                       {{"gross", joules}, {"net", nullptr}, {"min", least}, {"max", most}}},
                      {"windows", Json::array({window})},
                      {"reasons", Json::array()}};
}

report::Report report_of(const std::vector<Json>& records) {
  report::ReportBuilder builder("test");
  for (size_t i = 0; i < records.size(); ++i)
    builder.add(records[i], "results: line " + std::to_string(i + 1));
  return builder.build();
}

report::Report small_report() {
  Json original = loss_record("/models/original", "none", 9000000, 30, 0, 0.002);
  Json a = loss_record("/a", "rtn", 3000000, 33, 1.1, 0.002),
       b = loss_record("/b", "gptq", 2000000, 31, 1.02, 0.002);
  add_joules(a, 2, 1.9, 2.1, "estimated");
  add_joules(b, 1, 0.9, 1.1, "estimated");
  add_divergence(a, 0.1, 0.01);
  add_divergence(b, 0.02, 0.001);
  return report_of({original, a, b});
}

std::vector<std::string> statements(const report::Report& report, const std::string& version,
                                    bool good) {
  std::vector<std::string> texts;
  for (const report::Judgement& j : report.judgements) {
    if (report.versions[j.version].name == version && j.good == good) texts.push_back(j.text);
  }
  return texts;
}

}  // namespace qwb::testing
