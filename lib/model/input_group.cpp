#include "lib/model/input_group.h"

#include <algorithm>

namespace qwb {
namespace {

// Adds the groups of one sublayer.
class Grouping {
 public:
  Grouping(const ModelConfig& config, const SublayerSpec& sublayer, size_t index,
           std::vector<InputGroup>& groups)
      : config_(config), sublayer_(sublayer), index_(index), groups_(groups) {}

  void operator()(const AttentionSpec& spec) {
    entry(spec.qkv).maker.norm = sublayer_.before;
    InputMaker maker;
    maker.linear = spec.qkv.back();
    maker.first_row =
        spec.qkv.size() == 1 ? (config_.heads + config_.kv_heads) * config_.head_dim : 0;
    maker.by_value_head = true;
    close(spec.output, maker);
  }

  void operator()(const MlpSpec& spec) {
    entry(inputs(spec)).maker.norm = sublayer_.before;
    close(spec.down, maker_of_down(spec));
  }

  void operator()(const MoeSpec& spec) {
    const std::string shared = "its input is also read by the router and the other experts";
    InputGroup& router = entry({spec.router});
    router.routes = true;
    router.maker.obstacle = shared;
    for (size_t e = 0; e < spec.experts.size(); ++e) {
      InputGroup& first = entry(inputs(spec.experts[e]));
      first.expert = static_cast<int64_t>(e);
      first.maker.obstacle = shared;
      InputGroup& second = entry({spec.experts[e].down});
      second.expert = static_cast<int64_t>(e);
      second.maker = maker_of_down(spec.experts[e]);
    }
  }

 private:
  static std::vector<LinearSpec> inputs(const MlpSpec& spec) {
    std::vector<LinearSpec> readers = spec.gate;
    readers.push_back(spec.up);
    return readers;
  }

  InputMaker maker_of_down(const MlpSpec& spec) const {
    InputMaker maker;
    maker.linear = spec.up;
    if (spec.gate.empty() && config_.activation != Activation::relu)
      maker.obstacle = "the activation before it is not linear in a scale";
    return maker;
  }

  InputGroup& entry(std::vector<LinearSpec> readers) {
    InputGroup group;
    group.readers = std::move(readers);
    group.sublayer = index_;
    groups_.push_back(std::move(group));
    return groups_.back();
  }

  void close(const LinearSpec& reader, const InputMaker& maker) {
    InputGroup& group = entry({reader});
    group.maker = maker;
    group.closes = true;
    group.adds = sublayer_.after.empty();
  }

  const ModelConfig& config_;
  const SublayerSpec& sublayer_;
  size_t index_;
  std::vector<InputGroup>& groups_;
};

int64_t widest(const ModelConfig& config, const std::vector<BlockSpec>& blocks, bool closing) {
  int64_t most = 0;
  for (const BlockSpec& block : blocks) {
    for (const InputGroup& group : input_groups(config, block)) {
      if (!closing || group.closes) most = std::max(most, group.in());
    }
  }
  return most;
}

}  // namespace

std::vector<InputGroup> input_groups(const ModelConfig& config, const BlockSpec& spec) {
  std::vector<InputGroup> groups;
  for (size_t i = 0; i < spec.sublayers.size(); ++i)
    std::visit(Grouping(config, spec.sublayers[i], i, groups), spec.sublayers[i].mixer);
  return groups;
}

int64_t widest_input(const ModelConfig& config, const std::vector<BlockSpec>& blocks) {
  return widest(config, blocks, false);
}

int64_t widest_closing_input(const ModelConfig& config, const std::vector<BlockSpec>& blocks) {
  return widest(config, blocks, true);
}

std::vector<LinearSpec> block_linears(const BlockSpec& spec) {
  std::vector<LinearSpec> all;
  for (const InputGroup& group : input_groups({}, spec)) {
    for (const LinearSpec& reader : group.readers) all.push_back(reader);
  }
  return all;
}

}  // namespace qwb
