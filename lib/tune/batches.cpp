#include "lib/tune/batches.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "lib/base/hash.h"
#include "lib/base/rng.h"
#include "lib/exec/counter_bits.h"

namespace qwb {
namespace {

std::vector<size_t> shuffled(size_t count, uint64_t seed) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  Rng rng(seed);
  for (size_t i = count; i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
  return order;
}

std::string hash_of(const std::vector<TrainingDocument>& documents) {
  Hasher hasher;
  for (const TrainingDocument& document : documents) {
    hasher.bytes(std::as_bytes(std::span(document.tokens)));
    hasher.bytes(std::as_bytes(std::span(document.weights)));
  }
  return hasher.hex();
}

}  // namespace

const std::vector<size_t>& DocumentOrder::order_of(int64_t epoch) {
  if (epoch != epoch_) {
    epoch_ = epoch;
    order_ = shuffled(documents_, counter_bits(seed_, static_cast<uint64_t>(epoch)));
  }
  return order_;
}

std::vector<size_t> DocumentOrder::take(int64_t first, int64_t count) {
  const auto all = static_cast<int64_t>(documents_);
  std::vector<size_t> taken;
  for (int64_t i = first; i < first + count; ++i)
    taken.push_back(order_of(i / all)[static_cast<size_t>(i % all)]);
  return taken;
}

HeldOut hold_out(DocumentSet all, int64_t count) {
  constexpr uint64_t kAlwaysTheSame = 0;
  HeldOut split{all, {}};
  split.train.documents.clear();
  std::vector<bool> held(all.documents.size());
  const std::vector<size_t> order = shuffled(all.documents.size(), kAlwaysTheSame);
  for (int64_t i = 0; i < count; ++i) held[order[static_cast<size_t>(i)]] = true;
  for (size_t i = 0; i < held.size(); ++i) {
    auto& into = held[i] ? split.held.documents : split.train.documents;
    into.push_back(std::move(all.documents[i]));
  }
  split.train.hash = hash_of(split.train.documents);
  split.held.hash = hash_of(split.held.documents);
  return split;
}

std::vector<std::vector<size_t>> packed(const std::vector<TrainingDocument>& documents,
                                        const std::vector<size_t>& chosen, int64_t tokens,
                                        bool packing) {
  const auto size = [&](size_t index) { return std::ssize(documents[index].tokens); };
  std::vector<size_t> order = chosen;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return size(a) > size(b); });
  std::vector<std::vector<size_t>> groups;
  std::vector<int64_t> filled;
  for (const size_t index : order) {
    size_t best = groups.size();
    for (size_t g = 0; packing && g < groups.size(); ++g) {
      if (filled[g] + size(index) <= tokens && (best == groups.size() || filled[g] > filled[best]))
        best = g;
    }
    if (best == groups.size()) {
      groups.emplace_back();
      filled.push_back(0);
    }
    groups[best].push_back(index);
    filled[best] += size(index);
  }
  return groups;
}

TrainingRows rows_of(const std::vector<TrainingDocument>& documents,
                     const std::vector<size_t>& group, float factor, uint64_t key, double noise) {
  TrainingRows rows;
  rows.noise = noise;
  for (const size_t index : group) {
    const TrainingDocument& document = documents[index];
    const auto first = std::ssize(rows.tokens);
    const uint64_t own = counter_bits(key, index);
    for (size_t i = 0; i < document.tokens.size(); ++i) {
      const auto row = first + static_cast<int64_t>(i);
      rows.tokens.push_back(document.tokens[i]);
      if (key != 0) rows.keys.push_back(counter_bits(own, i));
      if (i > 0 && document.weights[i] > 0)
        rows.targets.push_back({row - 1, document.tokens[i], document.weights[i] * factor});
    }
    rows.documents.push_back(std::ssize(document.tokens));
  }
  return rows;
}

}  // namespace qwb
