// Storage for what evaluations have finished: results by their keys, and the windows or items of
// work under way. Implemented by lib/jobs (a cache on disk); a null keeper keeps nothing.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb {

// Pieces of work finished in order, each a list of numbers.
class WorkJournal {
 public:
  virtual ~WorkJournal() = default;
  // The pieces that an interrupted run of the same work finished, from the first on.
  virtual const std::vector<std::vector<double>>& finished() const = 0;
  // Adds the next piece. Never throws: a piece that cannot be kept is computed again next time.
  virtual void add(std::span<const double> numbers) = 0;
  // The work is done and its result kept.
  virtual void remove() = 0;
};

class ResultKeeper {
 public:
  virtual ~ResultKeeper() = default;
  // `key` contains everything that the result depends on, and nothing else.
  virtual std::optional<Json> find(const Json& key) = 0;
  // Never throws: a result that cannot be kept is measured again next time.
  virtual void keep(const Json& key, const Json& result) = 0;
  // Null where nothing can be kept, or another process works on the same.
  virtual std::unique_ptr<WorkJournal> journal(const Json& key) = 0;
  // For notes about the content of files.
  virtual Path memo_folder() const = 0;
};

}  // namespace qwb
