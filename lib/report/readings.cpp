#include "lib/report/readings.h"

#include <fmt/format.h>

#include "lib/base/error.h"
#include "lib/evaluate/protocols.h"
#include "lib/evaluate/record.h"
#include "lib/report/clean_text.h"
#include "lib/report/fields.h"

namespace qwb::report {
namespace {

constexpr auto kLower = Better::lower, kHigher = Better::higher;

class Readings {
 public:
  Readings(const Json& record, const std::string& where) : fields_{record, where} {}

  std::vector<Reading> all() {
    size();
    quality();
    tasks();
    speed();
    memory();
    add_energy_readings(fields_, readings_);
    return std::move(readings_);
  }

 private:
  void add(Metric metric, const std::string& condition, Figure figure) {
    readings_.push_back(
        {std::move(metric), figure.value ? clean_text(condition) : "", std::move(figure)});
  }
  // Why a part of the record is null.
  std::string not_measured(const char* flag) const {
    const Json* problems = fields_.find("/problems");
    if (problems != nullptr && problems->is_array() && !problems->empty() &&
        problems->at(0).is_string())
      return clean_text("failed: " + problems->at(0).get<std::string>());
    return std::string("not measured (qwb-eval ") + flag + ")";
  }

  void size() {
    Figure bytes, bpw;
    bytes.value = fields_.number("/bytes");
    bpw.value = fields_.number("/bpw");
    bpw.why = "the number of weights is not known";
    add({"size", "size", MetricGroup::size, Quantity::bytes, kLower, BoundsKind::exact}, "", bytes);
    add({"bpw", "bits per weight", MetricGroup::size, Quantity::bits, kLower, BoundsKind::exact},
        "", bpw);
  }

  // Protocol, text and tokens: what makes two perplexities comparable.
  std::string text_condition(const std::string& part) const {
    const std::string protocol = fields_.text(part + "/protocol");
    std::string text =
        fmt::format("protocol {}, context {}", protocol, fields_.integer(part + "/context"));
    if (const int64_t stride = fields_.integer(part + "/stride"); stride > 0)
      text += fmt::format(", stride {}", stride);
    text += fmt::format(", {} tokens scored in {} windows", fields_.integer(part + "/tokens"),
                        fields_.integer(part + "/windows"));
    // Words and bytes do not depend on the tokenizer, tokens do.
    const std::string hash = protocol == "lm-eval" ? "/text_hash" : "/token_hash";
    return text + ", text " + fields_.text(part + hash).substr(0, 8);
  }

  // The title of a protocol's value: of a token, of a word.
  static std::string value_title(const std::string& protocol) {
    for (const Protocol& known : protocols()) {
      if (known.name == protocol) return known.column;
    }
    return "perplexity";
  }

  void quality() {
    const bool perplexity = fields_.has("/perplexity"), divergence = fields_.has("/divergence");
    const std::string condition = perplexity ? text_condition("/perplexity") : "";
    const std::string title =
        perplexity ? value_title(fields_.text("/perplexity/protocol")) : "perplexity";
    add({"perplexity", title, MetricGroup::quality, Quantity::plain, kLower, BoundsKind::interval},
        condition, fields_.estimate("/perplexity", not_measured("--ppl")));
    Figure ratio;
    ratio.value = fields_.number("/perplexity/ratio");
    ratio.error = fields_.number("/perplexity/ratio_stderr");
    ratio.bounds = fields_.interval("/perplexity/ratio_interval");
    ratio.why = perplexity ? "the unquantized model was not there" : not_measured("--ppl");
    const auto baseline = fields_.number("/perplexity/baseline_value");
    add({"ratio", "ratio to the original", MetricGroup::quality, Quantity::ratio, kLower,
         BoundsKind::interval},
        condition + (baseline ? fmt::format("; original {:.6g}", *baseline) : ""), ratio);
    divergence_readings(divergence ? text_condition("/divergence") + "; from " +
                                         last_part(fields_.text("/divergence/baseline"))
                                   : "");
  }

  static std::string last_part(const std::string& path) {
    const std::string name = Path(path).filename().string();
    return name.empty() ? path : name;
  }

  void divergence_readings(const std::string& condition) {
    const std::string why = not_measured("--kl");
    add({"kl", "mean KL", MetricGroup::quality, Quantity::nats, kLower, BoundsKind::interval},
        condition, fields_.estimate("/divergence/mean_kl", why));
    Figure tail;
    tail.value = fields_.number("/divergence/kl_quantiles/p99");
    tail.why = why;
    add({"kl_p99", "p99 of KL", MetricGroup::quality, Quantity::nats, kLower, BoundsKind::none},
        condition, tail);
    add({"same_top", "same top token", MetricGroup::quality, Quantity::share, kHigher,
         BoundsKind::interval},
        condition, fields_.estimate("/divergence/same_top", why));
  }

  void tasks() {
    const Json* tasks = fields_.find("/tasks");
    for (size_t i = 0; tasks != nullptr && i < tasks->size(); ++i) {
      const std::string part = "/tasks/" + std::to_string(i);
      const std::string name = clean_text(fields_.text(part + "/task"));
      const std::string condition =
          fmt::format("{} of {} items, {} shots, items {}", fields_.integer(part + "/items"),
                      fields_.integer(part + "/items_in_file"), fields_.integer(part + "/shots"),
                      fields_.text(part + "/hash").substr(0, 8));
      const auto add_score = [&](const char* key, Quantity unit, Better better) {
        if (!fields_.has(part + "/" + key)) return;
        Figure figure = fields_.estimate(part + "/" + key, "");
        if (fields_.has(part + "/flips"))
          figure.remark = fmt::format("against the original {} answers turned wrong, {} right",
                                      fields_.integer(part + "/flips/to_wrong"),
                                      fields_.integer(part + "/flips/to_right"));
        add({"task-" + name + "-" + key, name + " " + key, MetricGroup::tasks, unit, better,
             BoundsKind::interval},
            condition, figure);
      };
      add_score("acc", Quantity::share, kHigher);
      add_score("acc_norm", Quantity::share, kHigher);
      add_score("perplexity", Quantity::plain, kLower);
    }
  }

  Figure spread(const std::string& part, const std::string& why) const {
    Figure figure;
    figure.value = fields_.number(part + "/median");
    const auto least = fields_.number(part + "/min"), most = fields_.number(part + "/max");
    if (least && most && fields_.integer("/speed/repetitions") > 1)
      figure.bounds = Interval{*least, *most};
    figure.why = why;
    if (const Json* noisy = fields_.find(part + "/noisy"); noisy != nullptr && *noisy == true) {
      figure.noisy = true;
      figure.remark = kNoisy;
    }
    return figure;
  }

  void speed() {
    const std::string why = not_measured("--speed");
    const std::string machine = fmt::format("{} threads, {}, {}", fields_.integer("/speed/threads"),
                                            fields_.text("/speed/isa"), fields_.text("/speed/cpu"));
    const auto work = [&](const char* what, const std::string& part, const char* count) {
      return fmt::format("{} of {} tokens at depth {}; {}", what, fields_.integer(part + count),
                         fields_.integer(part + "/depth"), machine);
    };
    const bool measured = fields_.has("/speed");
    Figure load;
    load.value = fields_.number("/speed/load_seconds");
    load.why = why;
    add({"prefill", "prefill", MetricGroup::speed, Quantity::rate, kHigher, BoundsKind::range},
        work("prefill", "/speed/prefill", "/tokens"),
        spread("/speed/prefill", measured ? "the grid has no prefill" : why));
    add({"decode", "decode", MetricGroup::speed, Quantity::rate, kHigher, BoundsKind::range},
        work("decode", "/speed/decode", "/tokens"),
        spread("/speed/decode", measured ? "the grid has no decode" : why));
    add({"first_token", "first token", MetricGroup::speed, Quantity::seconds, kLower,
         BoundsKind::range},
        work("after a prompt", "/speed/first_token_seconds", "/prompt"),
        spread("/speed/first_token_seconds", measured ? "the grid has no prefill" : why));
    add({"load", "load", MetricGroup::speed, Quantity::seconds, kLower, BoundsKind::none}, machine,
        load);
  }

  void memory() {
    const std::string why = not_measured("--speed or --ppl, --fresh");
    const std::string condition =
        fmt::format("with a KV cache of {} tokens", fields_.integer("/memory/kv_tokens"));
    Figure allocated, resident;
    const auto heap = fields_.number("/memory/ledger/allocated/peak"),
               mapped = fields_.number("/memory/ledger/mapped_weights/peak");
    if (heap && mapped) allocated.value = *heap + *mapped;
    resident.value = fields_.number("/memory/peak_bytes");
    if (const Json* reset = fields_.find("/memory/peak_reset"); reset != nullptr && *reset == false)
      resident.remark = "includes what ran earlier in the same process";
    allocated.why = resident.why = why;
    add({"memory", "memory as allocated", MetricGroup::memory, Quantity::bytes, kLower,
         BoundsKind::exact},
        condition, allocated);
    add({"resident", "peak resident", MetricGroup::memory, Quantity::bytes, kLower,
         BoundsKind::none},
        condition, resident);
  }

  Fields fields_;
  std::vector<Reading> readings_;
};

}  // namespace

void check_record(const Json& record, const std::string& where) {
  if (!record.is_object() || !record.contains("schema") || !record.contains("artifact"))
    throw Error(ErrorKind::failed, "this is no result of qwb-eval --json", where);
  const int64_t schema = json_int(record, "schema", where);
  if (schema != kRecordSchema) {
    throw Error(
        ErrorKind::unsupported,
        fmt::format("a result of schema {}; this version reads schema {}", schema, kRecordSchema),
        where, "measure again with the qwb-eval of this version");
  }
  for (const char* key : {"artifact", "method"}) json_string(record, key, where);
  if (json_int(record, "bytes", where) < 0)
    throw Error(ErrorKind::failed, "bytes is negative", where);
  for (const char* key : {"perplexity", "divergence", "speed", "memory", "energy"}) {
    if (json_has(record, key) && !record.at(key).is_object())
      throw Error(ErrorKind::failed, std::string(key) + " is neither null nor an object", where);
  }
  for (const char* key : {"tasks", "problems"}) {
    if (json_has(record, key) && !record.at(key).is_array())
      throw Error(ErrorKind::failed, std::string(key) + " is neither null nor a list", where);
  }
}

std::vector<Reading> readings_of(const Json& record, const std::string& where) {
  check_record(record, where);
  return Readings(record, where).all();
}

}  // namespace qwb::report
