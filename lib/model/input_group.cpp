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
    entry(spec.qkv).maker = maker_of_entry();
    close(spec.output, maker_of_output(spec)).part = InputGroup::Part::attended;
  }

  void operator()(const MlpSpec& spec) {
    entry(inputs(spec)).maker = maker_of_entry();
    close(spec.down, maker_of_down(spec)).part = InputGroup::Part::mlp_inner;
  }

  // Their sum leaves the sublayer: neither module closes it.
  void operator()(const ParallelSpec& spec) {
    std::vector<LinearSpec> readers = spec.attention.qkv;
    const std::vector<LinearSpec> of_mlp = inputs(spec.mlp);
    if (spec.mlp_norm.empty()) readers.insert(readers.end(), of_mlp.begin(), of_mlp.end());
    entry(readers).maker = maker_of_entry();
    InputGroup& output = entry({spec.attention.output});
    output.part = InputGroup::Part::attended;
    output.maker = maker_of_output(spec.attention);
    if (!spec.mlp_norm.empty()) {
      InputGroup& own = entry(of_mlp);
      own.part = InputGroup::Part::mlp_entry;
      own.maker.norm = spec.mlp_norm;
    }
    InputGroup& down = entry({spec.mlp.down});
    down.part = InputGroup::Part::mlp_inner;
    down.maker = maker_of_down(spec.mlp);
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
    if (!spec.shared_gate.module.empty()) {
      InputGroup& gate = entry({spec.shared_gate});
      gate.routes = true;
      gate.maker.obstacle = shared;
    }
    if (!spec.shared) return;
    entry(inputs(*spec.shared)).maker.obstacle = shared;
    InputGroup& last = entry({spec.shared->down});
    last.part = InputGroup::Part::mlp_inner;
    last.maker = maker_of_down(*spec.shared);
  }

 private:
  static std::vector<LinearSpec> inputs(const MlpSpec& spec) {
    std::vector<LinearSpec> readers = spec.gate;
    readers.push_back(spec.up);
    return readers;
  }

  InputMaker maker_of_entry() const {
    InputMaker maker;
    maker.norm = sublayer_.before;
    if (sublayer_.before.empty()) maker.obstacle = "it is the residual stream itself";
    return maker;
  }

  InputMaker maker_of_output(const AttentionSpec& spec) const {
    InputMaker maker;
    maker.linear = spec.qkv.back();
    maker.first_row =
        spec.qkv.size() == 1 ? (config_.heads + config_.kv_heads) * config_.head_dim : 0;
    maker.by_value_head = true;
    if (spec.grouped && config_.kv_heads > 1) {
      maker.linear.reset();
      maker.obstacle = "v's rows lie between those of q and k";
    }
    return maker;
  }

  InputMaker maker_of_down(const MlpSpec& spec) const {
    InputMaker maker;
    maker.linear = spec.up;
    maker.first_row = spec.fused ? spec.down.in : 0;
    if (spec.gate.empty() && !spec.fused && config_.activation != Activation::relu)
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

  InputGroup& close(const LinearSpec& reader, const InputMaker& maker) {
    InputGroup& group = entry({reader});
    group.maker = maker;
    group.closes = true;
    group.adds = sublayer_.after.empty() && config_.residual_scale == 1;
    return group;
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
  return std::max<int64_t>(1, widest(config, blocks, true));
}

const AttentionSpec* attention_of(const SublayerSpec& sublayer) {
  if (const auto* parallel = std::get_if<ParallelSpec>(&sublayer.mixer))
    return &parallel->attention;
  return std::get_if<AttentionSpec>(&sublayer.mixer);
}

std::vector<LinearSpec> block_linears(const BlockSpec& spec) {
  std::vector<LinearSpec> all;
  for (const InputGroup& group : input_groups({}, spec)) {
    for (const LinearSpec& reader : group.readers) all.push_back(reader);
  }
  return all;
}

}  // namespace qwb
