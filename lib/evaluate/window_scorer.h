// Runs a model over the windows of a plan.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/evaluate/protocols.h"
#include "lib/model/model.h"

namespace qwb {

class WindowScorer {
 public:
  // Both must outlive the scorer.
  WindowScorer(const Model& model, const TokenPlan& plan, StopToken stop = {});

  // Reads window `index` and returns the losses, in nats, of its scored tokens (valid until the
  // next call). Throws `failed` for a loss that is NaN or infinite, naming the module where it
  // comes from.
  std::span<const double> score(int64_t index);

  // Of the window read last: its scored tokens, and the final hidden states they are predicted
  // from, f32 [scored, hidden].
  std::span<const int32_t> targets() const;
  In hidden() const;

  int64_t kv_bytes() const { return cache_.bytes(); }
  int64_t hidden_bytes() const { return hidden_.bytes(); }

 private:
  void read();
  const Model& model_;
  const TokenPlan& plan_;
  StopToken stop_;
  KvCache cache_;
  Matrix hidden_;
  int64_t index_ = 0;
  std::vector<int32_t> tokens_;  // of the window, the last (unread) one included
  std::vector<double> losses_;
};

// Reads `tokens` block by block from an empty cache and names the first module whose output has a
// NaN or an infinity, or the token whose logit is one; empty if there is none.
std::string find_non_finite(const Model& model, std::span<const int32_t> tokens);

}  // namespace qwb
