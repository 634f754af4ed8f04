// The second block of each architecture's golden model, and the stream that enters it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "formats/registry.h"
#include "lib/base/file.h"
#include "lib/model/block_walk.h"
#include "lib/model/model.h"

namespace qwb {

inline constexpr int64_t kBlockTokens = 23;

class GoldenBlock : public testing::TestWithParam<std::string> {
 protected:
  GoldenBlock() {
    const OpenModel open = open_model(Path(QWB_SOURCE_DIR) / "tests/golden/model" / GetParam());
    model_ = Model::load(open.source, open.config, GetParam());
    std::vector<int32_t> tokens(static_cast<size_t>(kBlockTokens));
    const auto vocab = static_cast<size_t>(model_->config().vocab);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 37 % vocab);
    x_ = std::vector<float>(static_cast<size_t>(kBlockTokens * model_->config().hidden));
    model_->embed(tokens, 0, stream(x_));
  }
  Block block() const {
    return Block(model_->config(), model_->spec().blocks[1], 1, model_->source(),
                 model_->executor());
  }

  Out stream(std::vector<float>& x) const {
    return {x.data(), kBlockTokens, model_->config().hidden};
  }
  RotaryTable rotary() const {
    return {model_->executor(), model_->config().rope, 0, kBlockTokens};
  }

  // Of experts that no token is sent to.
  std::set<std::string> modules_without_tokens(const Block& block) {
    std::set<std::string> names;
    const RotaryTable rotary = this->rotary();
    KvCache cache = model_->new_cache(kBlockTokens);
    std::vector<float> x = x_;
    BlockWalk walk(block, model_->executor(), {kBlockTokens, rotary, cache.layer(1)}, stream(x));
    while (const InputGroup* group = walk.next()) {
      for (const LinearSpec& linear : group->readers) {
        if (walk.input().rows == 0) names.insert(linear.module);
      }
    }
    return names;
  }

  std::unique_ptr<Model> model_;
  std::vector<float> x_;
};

}  // namespace qwb
