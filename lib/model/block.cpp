#include "lib/model/block.h"

#include <algorithm>

#include "lib/base/error.h"

namespace qwb {

Block::Block(const ModelConfig& config, const BlockSpec& spec, int64_t index,
             const TensorSource& source, const Backend& backend)
    : config_(config), backend_(backend), index_(index), groups_(input_groups(config, spec)) {
  for (const SublayerSpec& sublayer : spec.sublayers)
    sublayers_.emplace_back(config, sublayer, source);
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
    count.add(linear->weight);
    count.add_floats(linear->bias.size());
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
  return const_cast<Block*>(this)->find(module).weight;
}

std::vector<AlignedBuffer> Block::pack_weights() {
  std::vector<AlignedBuffer> memory;
  for (Linear* linear : linears()) memory.push_back(backend_.pack(linear->weight));
  return memory;
}

void Block::set_weight(const std::string& module, const Weight& weight) {
  Linear& linear = find(module);
  if (weight.out != linear.spec.out || weight.in != linear.spec.in)
    throw Error(ErrorKind::failed, "another shape was put in place", module);
  linear.weight = weight;
}

const std::vector<float>& Block::bias(const std::string& module) const {
  return const_cast<Block*>(this)->find(module).bias;
}

void Block::set_bias(const std::string& module, const std::vector<float>& bias) {
  Linear& linear = find(module);
  if (bias.size() != linear.bias.size())
    throw Error(ErrorKind::failed, "another size was put in place", module + ".bias");
  linear.bias = bias;
}

void Block::set_norm(const std::string& module, const std::vector<float>& gain,
                     const std::vector<float>& bias) {
  for (Sublayer& sublayer : sublayers_) {
    for (Norm* norm : sublayer.norms()) {
      if (norm->spec.module != module) continue;
      norm->set(gain, bias);
      return;
    }
  }
  throw Error(ErrorKind::not_found,
              "block " + std::to_string(index_) + " has no norm '" + module + "'");
}

std::vector<int64_t> Block::rows(const InputGroup& group, const float* x, int64_t tokens) const {
  return sublayers_[group.sublayer].rows(layer(), group, x, tokens);
}

void Block::input(const InputGroup& group, const float* x, const SequencePart& part,
                  const std::vector<int64_t>& only, float* input) const {
  sublayers_[group.sublayer].input(layer(), group, x, part, only, input);
}

void Block::leave(size_t sublayer, const float* closing_input, int64_t tokens, float* x) const {
  sublayers_[sublayer].leave(layer(), closing_input, tokens, x);
}

void Block::advance(size_t sublayer, const SequencePart& part, float* x) const {
  const Sublayer& one = sublayers_[sublayer];
  FloatBuffer h(part.tokens * config_.hidden, MemoryKind::activations);
  FloatBuffer inner(part.tokens * one.inner_size(config_), MemoryKind::activations);
  one.advance(layer(), part, h.data(), inner.data(), x);
}

void Block::forward(float* x, const SequencePart& part) const {
  int64_t widest = 0;
  for (const Sublayer& sublayer : sublayers_)
    widest = std::max(widest, sublayer.inner_size(config_));
  FloatBuffer h(part.tokens * config_.hidden, MemoryKind::activations);
  FloatBuffer inner(part.tokens * widest, MemoryKind::activations);
  for (const Sublayer& sublayer : sublayers_)
    sublayer.advance(layer(), part, h.data(), inner.data(), x);
}

}  // namespace qwb
