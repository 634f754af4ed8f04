// What a version thinks of the base's own answer, token by token: prompt and answer are read as one
// prompt by every version, the base among them, so that the same products stand behind both sides.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "lib/model/model.h"
#include "lib/serve/engine/job.h"

namespace qwb::serve {

// Alternatives that are told of every token.
inline constexpr int64_t kAlongTop = 5;

// Of one token of the base's answer.
struct AlongToken {
  int32_t token = 0;
  double kl = 0;                // KL(base || version) at its place, nats
  double base_probability = 0;  // of the token
  double probability = 0;       // of the token, by the version
  int64_t rank = 1;  // of the token among the version's likeliest; ties: the lower id first
  std::vector<TokenChance> top = {};  // of the version
  bool same_top = false;              // both find the same token likeliest
};

// The final hidden states from which the base's tokens are told.
struct BasePath {
  const Model* model = nullptr;
  std::vector<int32_t> prompt;   // of the answer
  std::vector<int32_t> targets;  // the answer, with the token that ended it
  Matrix hidden;                 // [targets, hidden], once the base has read them

  // What every version reads: prompt and answer but the last token, whose successor nobody asks
  // for.
  std::vector<int32_t> text() const;
};

// Compares a version with the base while it reads BasePath::text(). The base itself comes first and
// fills `path`; its own divergence is 0.
class AlongReader : public RowReader {
 public:
  AlongReader(std::shared_ptr<BasePath> path, const Model& model);
  void rows(In hidden, int64_t first) override;
  const std::vector<AlongToken>& tokens() const { return tokens_; }

 private:
  void compare(In hidden, int64_t target);

  std::shared_ptr<BasePath> path_;
  const Model& model_;
  std::vector<AlongToken> tokens_;
};

}  // namespace qwb::serve
