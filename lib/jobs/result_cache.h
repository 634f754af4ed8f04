// The results of evaluations, kept in the cache folder:
//   results/         a store (cache/store.h) of its own, so that no result is taken for an
//                    artifact: one object a result, result.json
//   evaluations/HEX  the pieces of work under way; locked by the process that works
// A journal is a list of records: number of doubles (u64, little-endian), the doubles, XXH3-128 of
// both as 32 hex digits. It counts up to the first record that is not whole.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cache/store.h"
#include "lib/base/context.h"
#include "lib/evaluate/keeper.h"

namespace qwb {

// Nothing that goes wrong here stops an evaluation; `context` is told once.
class ResultCache : public ResultKeeper {
 public:
  // The cache of this user; `root` empty: default_cache_root(), or where there is none nothing is
  // kept.
  explicit ResultCache(const Context& context, const Path& root = {});

  std::optional<Json> find(const Json& key) override;
  void keep(const Json& key, const Json& result) override;
  std::unique_ptr<WorkJournal> journal(const Json& key) override;
  // What is kept of a model, by its content hash, under keys that are `wanted`: keys with their
  // results, the newest first. Reads the list of all results; never throws.
  std::vector<std::pair<Json, Json>> of_model(
      const std::string& hash, const std::function<bool(const Json& key)>& wanted) const;
  Path memo_folder() const override { return root_.empty() ? Path() : root_ / "memo"; }

 private:
  void warn_once(const std::string& what);
  Path root_;
  std::optional<Store> store_;  // nothing without a place for a cache
  Context context_;
  bool warned_ = false;
};

}  // namespace qwb
