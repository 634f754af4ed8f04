#include "lib/model/block.h"

#include <algorithm>

#include "lib/base/error.h"

namespace qwb {

Block::Block(const ModelConfig& config, const BlockSpec& spec, int64_t index,
             const TensorSource& source, const Executor& executor)
    : config_(config), executor_(executor), index_(index), groups_(input_groups(config, spec)) {
  for (const SublayerSpec& sublayer : spec.sublayers)
    sublayers_.emplace_back(config, sublayer, source, executor);
}

std::vector<Linear*> Block::linears() {
  std::vector<Linear*> all;
  for (Sublayer& sublayer : sublayers_) {
    for (Linear* linear : sublayer.linears()) all.push_back(linear);
  }
  return all;
}

void Block::count_weights(WeightCount& count) const {
  for (const Sublayer& sublayer : sublayers_) {
    for (const Norm* norm : sublayer.all_norms())
      count.add_floats(norm->gain.size() + norm->bias.size());
  }
  for (const Linear* linear : const_cast<Block*>(this)->linears()) {
    count.add(linear->weight.stored());
    count.add_floats(linear->bias.size());
    for (const auto& addition : linear->additions) count.add_floats(addition->values());
  }
}

Linear& Block::find(const std::string& module) {
  for (Linear* linear : linears()) {
    if (linear->spec.module == module) return *linear;
  }
  throw Error(ErrorKind::not_found,
              "block " + std::to_string(index_) + " has no module '" + module + "'");
}

const Weight& Block::weight(const std::string& module) const {
  return const_cast<Block*>(this)->find(module).weight.stored();
}

void Block::attach(const std::string& module, std::shared_ptr<const LowRank> addition) {
  find(module).attach(std::move(addition));
}

void Block::prepare_often() {
  for (Linear* linear : linears())
    linear->weight = executor_.prepare(linear->weight.stored(), Reuse::often);
}

void Block::release(const std::string& module) {
  find(module).weight = {};
}

void Block::set_weight(const std::string& module, const Weight& weight) {
  set_weight(module, executor_.prepare(weight, Reuse::often));
}

void Block::set_weight(const std::string& module, Prepared weight) {
  Linear& linear = find(module);
  if (weight.stored().out != linear.spec.out || weight.stored().in != linear.spec.in)
    throw Error(ErrorKind::failed, "another shape was put in place", module);
  linear.weight = std::move(weight);
}

std::vector<float> Block::bias(const std::string& module) const {
  const DeviceVector& bias = const_cast<Block*>(this)->find(module).bias;
  return bias.empty() ? std::vector<float>() : executor_.download(bias.view());
}

void Block::set_bias(const std::string& module, const std::vector<float>& bias) {
  Linear& linear = find(module);
  if (std::ssize(bias) != linear.bias.size())
    throw Error(ErrorKind::failed, "another size was put in place", module + ".bias");
  if (!bias.empty()) linear.bias = DeviceVector(executor_, bias);
}

void Block::set_norm(const std::string& module, const std::vector<float>& gain,
                     const std::vector<float>& bias) {
  for (Sublayer& sublayer : sublayers_) {
    for (Norm* norm : sublayer.norms()) {
      if (norm->spec.module != module) continue;
      norm->set(executor_, gain, bias);
      return;
    }
  }
  throw Error(ErrorKind::not_found,
              "block " + std::to_string(index_) + " has no norm '" + module + "'");
}

std::vector<int64_t> Block::rows(const InputGroup& group, In x) const {
  return sublayers_[group.sublayer].rows(layer(), group, x);
}

void Block::input(const InputGroup& group, In x, const Batch& batch,
                  const std::vector<int64_t>& only, Out input) const {
  sublayers_[group.sublayer].input(layer(), group, x, batch, only, input);
}

void Block::leave(size_t sublayer, In closing_input, Out x) const {
  sublayers_[sublayer].leave(layer(), closing_input, x);
}

void Block::advance(size_t sublayer, const Batch& batch, Out x) const {
  const Sublayer& one = sublayers_[sublayer];
  const Matrix h = executor_.allocate(x.rows, x.columns);
  const Matrix inner = executor_.allocate(x.rows, one.inner_size(config_));
  one.advance(layer(), batch, h, inner, x);
}

void Block::forward(Out x, const Batch& batch) const {
  int64_t widest = 0;
  for (const Sublayer& sublayer : sublayers_)
    widest = std::max(widest, sublayer.inner_size(config_));
  const Matrix h = executor_.allocate(x.rows, x.columns);
  const Matrix inner = executor_.allocate(x.rows, widest);
  for (const Sublayer& sublayer : sublayers_) {
    const Out own = inner.view().as(x.rows, sublayer.inner_size(config_));
    sublayer.advance(layer(), batch, h, own, x);
  }
}

}  // namespace qwb
