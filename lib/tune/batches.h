// Which documents a step takes, and which go through the model together.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/model/tape/taped_model.h"
#include "lib/tune/documents.h"

namespace qwb {

// Every epoch takes all documents once, in an order that is a function of seed and epoch.
class DocumentOrder {
 public:
  DocumentOrder(size_t documents, uint64_t seed) : documents_(documents), seed_(seed) {}
  // The documents number [first, first + count) of the endless row of epochs.
  std::vector<size_t> take(int64_t first, int64_t count);

 private:
  const std::vector<size_t>& order_of(int64_t epoch);
  size_t documents_;
  uint64_t seed_;
  int64_t epoch_ = -1;
  std::vector<size_t> order_;
};

// Splits a set: `count` documents that are held out, the same whatever the seed, and the rest; both
// in the order of the file.
struct HeldOut {
  DocumentSet train, held;
};
HeldOut hold_out(DocumentSet all, int64_t count);

// Groups of documents of at most `tokens` together (a longer one alone): the longest first, each
// into the fullest group that has room. Not packing: each alone.
std::vector<std::vector<size_t>> packed(const std::vector<TrainingDocument>& documents,
                                        const std::vector<size_t>& chosen, int64_t tokens,
                                        bool packing);

// A group as the model takes it; every loss counts its token's weight times `factor`. key: what
// dropout and noise are a function of, besides document and position; 0: there are none.
TrainingRows rows_of(const std::vector<TrainingDocument>& documents,
                     const std::vector<size_t>& group, float factor, uint64_t key, double noise);

}  // namespace qwb
