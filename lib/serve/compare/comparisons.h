// The comparisons that run, by their ids, so that another request can stop one.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace qwb::serve {

class Comparison;

class Comparisons {
 public:
  void add(const std::string& id, const std::shared_ptr<Comparison>& comparison);
  // Null for one that is over, unknown, or another's: `owner` is whose key the request came with.
  std::shared_ptr<Comparison> find(const std::string& id, const std::string& owner);
  // Only what is there for `comparison`, which may be at its end.
  void remove(const std::string& id, const std::weak_ptr<Comparison>& comparison);

 private:
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<Comparison>> running_;
};

}  // namespace qwb::serve
