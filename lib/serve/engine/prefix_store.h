// Beginnings of prompts that were read before, with their keys and values, so that the next prompt
// that begins the same need not read them again.
//
// Only whole pieces that were read as pieces of a prompt are kept, and only whole pieces are taken
// over: a hit then runs products of the same shapes as a miss, and the bits stay.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <string>
#include <vector>

#include "lib/model/model.h"

namespace qwb::serve {

class PrefixStore {
 public:
  explicit PrefixStore(int64_t piece) : piece_(piece) {}

  struct Hit {
    KvCache* cache = nullptr;  // until the next call of keep() or drop_oldest()
    int64_t tokens = 0;        // whole pieces, fewer than the prompt has; 0: nothing is kept
  };
  // Token ids are compared one by one. `owner` tells whose prompts may be seen.
  Hit find(const Model& model, const std::string& owner, std::span<const int32_t> prompt);

  // How many tokens of a prompt are worth keeping: its whole pieces, less what is kept already.
  // 0: nothing.
  int64_t worth_keeping(const Model& model, const std::string& owner,
                        std::span<const int32_t> prompt) const;
  // Keeps `tokens`, whole pieces, which `cache` holds and nothing else. Shorter beginnings of them
  // that are kept become superfluous and go.
  void keep(const Model& model, const std::string& owner, std::span<const int32_t> tokens,
            KvCache cache);
  // Of the longest time without use. False: there is none.
  bool drop_oldest();
  int64_t bytes() const { return bytes_; }

 private:
  struct Entry {
    const Model* model;
    std::string owner;
    std::vector<int32_t> tokens;
    KvCache cache;
  };
  int64_t common(const Entry& entry, const Model& model, const std::string& owner,
                 std::span<const int32_t> prompt) const;

  int64_t piece_;
  int64_t bytes_ = 0;
  std::list<Entry> entries_;  // the last used first
};

}  // namespace qwb::serve
