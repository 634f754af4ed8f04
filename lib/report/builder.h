// Puts records together to a report.
#pragma once

#include <string>
#include <vector>

#include "lib/report/readings.h"
#include "lib/report/report.h"

namespace qwb::report {

class ReportBuilder {
 public:
  explicit ReportBuilder(const std::string& title);

  // A record of qwb-eval --json. Records of the same artifact that complement each other become one
  // version; repeated timings and joules of it join their bounds; two that disagree in what does
  // not vary become two. With `fill_gaps` only figures that the version lacks are taken. `name`:
  // given by the user, else made from method and folder. Throws what readings_of throws, and then
  // leaves everything as it was.
  void add(const Json& record, const std::string& where, const std::string& name = {},
           bool fill_gaps = false);
  void add_problem(const std::string& problem);

  // With names, originals, conditions and judgements. Damaged qwb.json become problems.
  Report build() const;

 private:
  struct Row {
    std::string folder, method, given;
    std::optional<double> bits;
    Json forward;
    std::vector<std::string> baselines;  // folders that it was compared with
    std::vector<Reading> readings;
  };
  Row* home_of(const Row& row, bool fill_gaps);
  Version version_of(const Row& row, Report& report) const;
  std::vector<Column> columns_of(const std::vector<std::vector<Reading>>& readings) const;

  std::string title_;
  std::vector<Row> rows_;
  std::vector<std::string> problems_;
};

}  // namespace qwb::report
