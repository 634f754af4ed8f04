// A report: what several versions of a model cost and lost, side by side. Rows are versions
// (artifacts and models), columns are metrics under one condition. Figures that were taken under
// different conditions (protocol, text, threads, processor, source of joules) never share a column:
// each condition makes its own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/evaluate/statistics.h"
#include "lib/report/making.h"

namespace qwb::report {

enum class MetricGroup { size, quality, tasks, speed, memory, energy, making };
enum class Quantity { bytes, bits, plain, ratio, nats, share, seconds, rate, joules };
enum class Better { lower, higher };
// The meaning of a figure's bounds. exact: the value itself; interval: of 95 %; range: the least
// and the greatest of the repetitions; none: measured once, so that its error is not known.
enum class BoundsKind { exact, interval, range, none };

struct Metric {
  std::string id;     // "perplexity": for programs
  std::string title;  // "mean KL": for people
  MetricGroup group = MetricGroup::size;
  Quantity unit = Quantity::plain;
  Better better = Better::lower;
  BoundsKind bounds = BoundsKind::none;
};

// A number, or why there is none.
struct Figure {
  std::optional<double> value;
  std::optional<double> error;     // one standard error
  std::optional<Interval> bounds;  // as Metric::bounds says
  int runs = 1;                    // whose value this is the mean of
  bool estimated = false;          // not measured (joules)
  bool noisy = false;  // measured while the machine did something else: nothing follows from it
  std::string remark;
  std::string why;  // there is no value
};
// remark of noisy figures
inline constexpr const char* kNoisy =
    "the machine did something else meanwhile: nothing is concluded";
inline constexpr const char* kSeveralRuns =
    "several runs";  // remark: the bounds hold more than one run

struct Column {
  Metric metric;
  std::string condition;        // what its figures belong to; may be empty
  int number = 0;               // of the condition where the metric has several; else 0
  std::vector<Figure> figures;  // of the versions

  std::string title() const;  // "perplexity", "perplexity [2]"
  std::string id() const;     // "perplexity", "perplexity-2"
  bool empty() const;         // no version has a value
};

struct Version {
  std::string name;      // of its own within the report
  std::string artifact;  // the folder, as the record names it
  std::string method;
  std::optional<double> bits;
  Json forward;           // record.h: int8_forward
  bool original = false;  // the unquantized model that others are compared with
  std::optional<Making> making;
};

// A statement about a version with the figures that support it.
struct Judgement {
  size_t version = 0;
  bool good = false;
  std::string text;
};

struct Report {
  std::string title;
  std::vector<Version> versions;
  std::vector<Column> columns;  // grouped as in MetricGroup
  std::vector<Judgement> judgements;
  std::vector<std::string> problems;  // what measurements and files complain of

  const Column* find(
      const std::string& metric) const;  // the first with that metric's id; null without
};

const char* group_title(MetricGroup group);
// The conditions of the columns, each with the titles it belongs to: "perplexity, ratio: protocol
// ...".
std::vector<std::string> condition_notes(const Report& report);

}  // namespace qwb::report
