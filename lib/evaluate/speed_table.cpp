#include "lib/evaluate/speed_table.h"

#include <fmt/format.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/evaluate/speed.h"

namespace qwb {
namespace {

std::string text_of(const Json& object, const char* key) {
  return json_has(object, key) && object.at(key).is_string() ? object.at(key).get<std::string>()
                                                             : "";
}

std::string model_type(const Json& record, const Json& model) {
  std::string type = text_of(model, "architecture");
  if (json_has(model, "parameters"))
    type += fmt::format(" {:.2f} M", model.at("parameters").get<double>() * 1e-6);
  const std::string method = text_of(record, "method");
  return method.empty() || method == "none" ? type : type + " " + method;
}

Json row_of(const Json& common, const Json& test, const std::string& where) {
  Json row = common;
  for (const char* key : {"n_prompt", "n_gen", "n_depth"}) row[key] = json_int(test, key, where);
  row["test_time"] = text_of(test, "test_time");
  const auto tokens = row["n_prompt"].get<double>() + row["n_gen"].get<double>();
  std::vector<double> times, rates;
  if (!json_has(test, "samples_ns") || !test.at("samples_ns").is_array() ||
      test.at("samples_ns").empty())
    throw Error(ErrorKind::failed, "a speed test without samples", where);
  for (const Json& sample : test.at("samples_ns")) {
    if (!sample.is_number() || !(sample.get<double>() > 0))
      throw Error(ErrorKind::failed, "a speed test with a sample that is no time", where);
    times.push_back(sample.get<double>());
    rates.push_back(1e9 * tokens / times.back());
  }
  const Spread time = spread_of(times), rate = spread_of(rates);
  row["avg_ns"] = std::llround(time.mean);
  row["stddev_ns"] = std::llround(time.deviation);
  row["avg_ts"] = rate.mean;
  row["stddev_ts"] = rate.deviation;
  row["samples_ns"] = test.at("samples_ns");
  row["samples_ts"] = rates;
  return row;
}

}  // namespace

std::vector<Json> speed_rows(const Json& record, const std::string& where) {
  std::vector<Json> rows;
  if (!json_has(record, "speed")) return rows;
  const Json& speed = record.at("speed");
  if (!json_has(speed, "tests") || !json_has(speed, "model"))
    throw Error(ErrorKind::failed, "a record whose speed has no tests", where);
  const Json& model = speed.at("model");
  const Json common = {{"build_commit", text_of(speed, "version")},
                       {"build_number", 0},
                       {"cpu_info", text_of(speed, "cpu")},
                       {"gpu_info", ""},
                       {"backends", "CPU"},
                       {"model_filename", json_string(record, "artifact", where)},
                       {"model_type", model_type(record, model)},
                       {"model_size", json_int(model, "bytes", where)},
                       {"model_n_params", json_int(model, "parameters", where)},
                       {"n_threads", json_int(speed, "threads", where)},
                       {"type_k", "f32"},
                       {"type_v", "f32"},
                       {"use_mmap", true},
                       {"isa", text_of(speed, "isa")}};
  for (const Json& test : speed.at("tests")) rows.push_back(row_of(common, test, where));
  return rows;
}

SpeedFormat find_speed_format(const std::string& name) {
  if (name == "md") return SpeedFormat::markdown;
  if (name == "csv") return SpeedFormat::csv;
  if (name == "json") return SpeedFormat::json;
  if (name == "jsonl") return SpeedFormat::jsonl;
  throw Error(ErrorKind::usage, "no speed table is called \"" + name + "\"", {},
              "md, csv, json or jsonl");
}

namespace {

std::string plain(const Json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string csv(const std::vector<Json>& rows) {
  std::string text;
  for (const Json& row : rows) {
    std::string names, values;
    for (const auto& [key, value] : row.items()) {
      if (value.is_array()) continue;
      std::string quoted = "\"";
      for (const char c : plain(value))
        quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
      values += (values.empty() ? "" : ",") + quoted + "\"";
      names += (names.empty() ? "" : ",") + key;
    }
    text += (text.empty() ? names + "\n" : "") + values + "\n";
  }
  return text;
}

// Names of models may hold the column separator.
std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '|' ? std::string("\\|") : std::string(1, c);
  return result;
}

std::string markdown(const std::vector<Json>& rows) {
  std::string text =
      "| model | size | params | backend | threads | test | t/s |\n"
      "| --- | ---: | ---: | --- | ---: | ---: | ---: |\n";
  for (const Json& row : rows) {
    const SpeedTest test{row["n_prompt"].get<int64_t>(), row["n_gen"].get<int64_t>(),
                         row["n_depth"].get<int64_t>()};
    text += fmt::format("| {} | {:.2f} MiB | {:.2f} M | {} | {} | {} | {:.2f} ± {:.2f} |\n",
                        escaped(row["model_type"].get<std::string>()),
                        row["model_size"].get<double>() / (1 << 20),
                        row["model_n_params"].get<double>() * 1e-6,
                        row["backends"].get<std::string>(), row["n_threads"].get<int64_t>(),
                        test.name(), row["avg_ts"].get<double>(), row["stddev_ts"].get<double>());
  }
  return text;
}

}  // namespace

std::string speed_table(const std::vector<Json>& rows, SpeedFormat format) {
  if (format == SpeedFormat::markdown) return markdown(rows);
  if (format == SpeedFormat::csv) return csv(rows);
  std::string text;
  for (const Json& row : rows) {
    const std::string line = row.dump(-1, ' ', false, Json::error_handler_t::replace);
    text += format == SpeedFormat::jsonl ? line + "\n" : (text.empty() ? "  " : ",\n  ") + line;
  }
  return format == SpeedFormat::jsonl ? text : "[\n" + text + "\n]\n";
}

}  // namespace qwb
