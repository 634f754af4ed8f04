// A tuning run on disk, so that it goes on after anything: where it is, its log.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/file_lock.h"
#include "lib/base/json.h"

namespace qwb {

struct SavedRun {
  Json header;  // request, step, best and what else the run keeps
  std::vector<float> values;
};

class TuneState {
 public:
  // Makes the folder and takes its lock. Throws usage where another process holds it.
  explicit TuneState(const Path& folder);
  const Path& folder() const { return folder_; }

  // Nothing where no state was saved. Throws `failed` for damage.
  std::optional<SavedRun> load() const;
  void save(const SavedRun& run) const;
  // Forgets everything.
  void clear();

  // The log: a line of JSON each.
  const std::vector<Json>& log() const { return log_; }
  // Keeps those up to that step.
  void cut_log(int64_t step);
  void add_log(const Json& record);

 private:
  Path log_file() const { return folder_ / "log.jsonl"; }
  Path folder_;
  std::shared_ptr<FileLock> lock_;
  std::vector<Json> log_;
};

// The same as text: JSON lines, and CSV with a row a step.
std::string log_lines(const std::vector<Json>& log);
std::string log_csv(const std::vector<Json>& log);

}  // namespace qwb
