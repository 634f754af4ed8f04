// Records of evaluations (lib/evaluate/record.h, schema 2), fresh or read from a file, as tables.
#pragma once

#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/base/text.h"
#include "tools/common/tool.h"

namespace qwb {

class EvaluationTable {
 public:
  // The protocol names the column of perplexities until a record tells its own.
  explicit EvaluationTable(std::string protocol) : protocol_(std::move(protocol)) {}
  // Throws unsupported for a record of another schema; usage, naming `where`, if its perplexity or
  // divergence has another protocol or text than those before: two of them never share a column.
  void add(const Json& record, const std::string& where);
  bool empty() const { return rows_.empty(); }
  // One table of artifacts, one of speeds if a grid has more than the usual two, and one of tasks
  // if there are any.
  std::string text(Tool& tool) const;
  // Rows of llama-bench (lib/evaluate/speed_table.h).
  const std::vector<Json>& speed() const { return speed_; }

 private:
  std::string protocol_;
  std::string kind_;  // protocol, stride and text of all figures so far
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::vector<std::string>> tasks_;
  std::vector<std::vector<std::string>> grid_;
  bool shows_grid_ = false;
  std::vector<Json> speed_;
};

}  // namespace qwb
