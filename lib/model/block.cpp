#include "lib/model/block.h"

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"

namespace qwb {

Weight find_weight(const TensorSource& source, const std::string& module, int64_t out, int64_t in,
                   Orientation orientation) {
  std::optional<Weight> weight = source.quantized(module);
  if (!weight) {
    const auto tensor = source.find(module + ".weight");
    if (!tensor) {
      throw Error(ErrorKind::not_found, "tensor '" + module + ".weight' is missing", {},
                  "the checkpoint is incomplete or not of this architecture");
    }
    weight = Weight{out, in, orientation, DenseWeight{*tensor}};
  } else if (weight->out != out || weight->in != in) {
    throw Error(ErrorKind::failed,
                "the quantized weight is " + shape_text({weight->out, weight->in}) +
                    ", config.json asks for " + shape_text({out, in}),
                module);
  }
  check_weight(*weight, module);
  return *weight;
}

std::vector<float> find_vector(const TensorSource& source, const std::string& name, int64_t size) {
  const auto tensor = source.find(name);
  if (!tensor)
    throw Error(ErrorKind::not_found, "tensor '" + name + "' is missing", {},
                "the checkpoint is incomplete or not of this architecture");
  if (tensor->shape != Shape{size}) {
    throw Error(ErrorKind::failed,
                "shape is " + shape_text(tensor->shape) + ", config.json asks for " + shape_text({size}),
                name);
  }
  std::vector<float> values = read_floats(*tensor, name);
  for (const float value : values) {
    if (!std::isfinite(value))
      throw Error(ErrorKind::failed, "holds NaN or Inf", name, "the checkpoint is damaged");
  }
  return values;
}

RotaryTable::RotaryTable(const Rope& rope, int64_t first_position, int64_t tokens) {
  const auto half = static_cast<int64_t>(rope.frequencies.size());
  cosine = FloatBuffer(tokens * half, MemoryKind::activations);
  sine = FloatBuffer(tokens * half, MemoryKind::activations);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t k = 0; k < half; ++k) {
      // The angle is rounded to f32 as the models were trained; its cosine is exact.
      const double angle = static_cast<float>(first_position + t) * rope.frequencies[static_cast<size_t>(k)];
      cosine[t * half + k] = static_cast<float>(std::cos(angle)) * rope.attention_factor;
      sine[t * half + k] = static_cast<float>(std::sin(angle)) * rope.attention_factor;
    }
  }
}

Block::Block(const ModelConfig& config, const BlockSpec& spec, int64_t index, const TensorSource& source,
             const Backend& backend)
    : config_(config), backend_(backend), index_(index) {
  attention_norm_ = load_norm(spec.attention_norm, config.hidden, source);
  mlp_norm_ = load_norm(spec.mlp_norm, config.hidden, source);
  if (!spec.q_norm.empty()) {
    q_norm_ = load_norm({spec.q_norm}, config.head_dim, source);
    k_norm_ = load_norm({spec.k_norm}, config.head_dim, source);
  }
  for (const LinearSpec& linear : spec.qkv) qkv_.push_back(load_linear(linear, source));
  for (const LinearSpec& linear : spec.gate) gate_.push_back(load_linear(linear, source));
  output_ = load_linear(spec.output, source);
  up_ = load_linear(spec.up, source);
  down_ = load_linear(spec.down, source);
}

Block::Norm Block::load_norm(const NormSpec& spec, int64_t size, const TensorSource& source) const {
  Norm norm;
  norm.centred = spec.centred;
  norm.gain = find_vector(source, spec.module + ".weight", size);
  if (spec.centred) norm.bias = find_vector(source, spec.module + ".bias", size);
  return norm;
}

Block::Linear Block::load_linear(const LinearSpec& spec, const TensorSource& source) const {
  Linear linear{spec, find_weight(source, spec.module, spec.out, spec.in, spec.orientation), {}};
  if (spec.bias) linear.bias = find_vector(source, spec.module + ".bias", spec.out);
  return linear;
}

void Block::count_weights(WeightCount& count) const {
  for (const Norm* norm : {&attention_norm_, &mlp_norm_, &q_norm_, &k_norm_}) {
    count.add_floats(norm->gain.size() + norm->bias.size());
  }
  const auto add = [&count](const Linear& linear) {
    count.add(linear.weight);
    count.add_floats(linear.bias.size());
  };
  for (const Linear& linear : qkv_) add(linear);
  for (const Linear& linear : gate_) add(linear);
  for (const Linear* linear : {&output_, &up_, &down_}) add(*linear);
}

std::vector<const LinearSpec*> Block::linears(Stage stage) const {
  std::vector<const LinearSpec*> specs;
  switch (stage) {
    case Stage::attention_input:
      for (const Linear& linear : qkv_) specs.push_back(&linear.spec);
      break;
    case Stage::attention_output:
      specs.push_back(&output_.spec);
      break;
    case Stage::mlp_input:
      for (const Linear& linear : gate_) specs.push_back(&linear.spec);
      specs.push_back(&up_.spec);
      break;
    case Stage::mlp_output:
      specs.push_back(&down_.spec);
  }
  return specs;
}

int64_t Block::input_size(Stage stage) const {
  return linears(stage).front()->in;
}

Block::Linear& Block::find(const std::string& module) {
  for (Linear& linear : qkv_) {
    if (linear.spec.module == module) return linear;
  }
  for (Linear& linear : gate_) {
    if (linear.spec.module == module) return linear;
  }
  for (Linear* linear : {&output_, &up_, &down_}) {
    if (linear->spec.module == module) return *linear;
  }
  throw Error(ErrorKind::not_found, "block " + std::to_string(index_) + " has no module '" + module + "'");
}

const Weight& Block::weight(const std::string& module) const {
  return const_cast<Block*>(this)->find(module).weight;
}

std::vector<AlignedBuffer> Block::pack_weights() {
  std::vector<AlignedBuffer> memory;
  const auto pack = [&](Linear& linear) { memory.push_back(backend_.pack(linear.weight)); };
  for (Linear& linear : qkv_) pack(linear);
  for (Linear& linear : gate_) pack(linear);
  for (Linear* linear : {&output_, &up_, &down_}) pack(*linear);
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

void Block::set_norm(Stage stage, const std::vector<float>& gain, const std::vector<float>& bias) {
  Norm& norm = stage == Stage::attention_input ? attention_norm_ : mlp_norm_;
  if (gain.size() != norm.gain.size() || bias.size() != norm.bias.size())
    throw Error(ErrorKind::failed,
                "another size was put in place of a norm of block " + std::to_string(index_));
  norm.gain = gain;
  norm.bias = bias;
}

void Block::normalize(const Norm& norm, const float* x, int64_t tokens, float* h) const {
  if (norm.centred) {
    backend_.layer_norm(x, tokens, config_.hidden, norm.gain.data(), norm.bias.data(), config_.norm_eps, h);
  } else {
    backend_.rms_norm(x, tokens, config_.hidden, norm.gain.data(), config_.norm_eps, h);
  }
}

void Block::apply(const Linear& linear, const float* x, int64_t tokens, float* y, bool add) const {
  backend_.linear(x, tokens, linear.weight, linear.bias.empty() ? nullptr : linear.bias.data(), y, add);
}

void Block::apply(std::initializer_list<std::pair<const Linear*, float*>> linears, const float* x,
                  int64_t tokens) const {
  std::vector<Backend::Output> outputs;
  for (const auto& [linear, y] : linears)
    outputs.push_back({&linear->weight, linear->bias.empty() ? nullptr : linear->bias.data(), y});
  backend_.linears(x, tokens, outputs);
}

void Block::attention_input(const float* x, int64_t tokens, float* h) const {
  normalize(attention_norm_, x, tokens, h);
}
void Block::mlp_input(const float* x, int64_t tokens, float* h) const {
  normalize(mlp_norm_, x, tokens, h);
}

void Block::normalize_heads(const Norm& norm, float* x, int64_t tokens, int64_t heads) const {
  if (!norm.gain.empty())
    backend_.rms_norm(x, tokens * heads, config_.head_dim, norm.gain.data(), config_.norm_eps, x);
}

void Block::attend(const float* h, int64_t tokens, const RotaryTable& rotary, LayerCache cache,
                   float* attended) const {
  const int64_t q_size = config_.heads * config_.head_dim;
  const int64_t kv_size = config_.kv_heads * config_.head_dim;
  float* keys = cache.keys + cache.past * kv_size;
  float* values = cache.values + cache.past * kv_size;
  const bool fused = qkv_.size() == 1;
  const int64_t stride = fused ? q_size + 2 * kv_size : q_size;
  FloatBuffer queries(tokens * stride, MemoryKind::activations);
  if (fused) {
    apply(qkv_[0], h, tokens, queries.data(), false);
    for (int64_t t = 0; t < tokens; ++t) {
      const float* row = queries.data() + t * stride + q_size;
      std::copy_n(row, kv_size, keys + t * kv_size);
      std::copy_n(row + kv_size, kv_size, values + t * kv_size);
    }
  } else {
    apply({{&qkv_[0], queries.data()}, {&qkv_[1], keys}, {&qkv_[2], values}}, h, tokens);
    normalize_heads(q_norm_, queries.data(), tokens, config_.heads);
    normalize_heads(k_norm_, keys, tokens, config_.kv_heads);
  }
  if (rotary.cosine.size() > 0) {
    backend_.rotate(queries.data(), tokens, config_.heads, config_.head_dim, stride, rotary.cosine.data(),
                    rotary.sine.data());
    backend_.rotate(keys, tokens, config_.kv_heads, config_.head_dim, kv_size, rotary.cosine.data(),
                    rotary.sine.data());
  }
  AttentionShape shape;
  shape.tokens = tokens;
  shape.past = cache.past;
  shape.heads = config_.heads;
  shape.kv_heads = config_.kv_heads;
  shape.head_dim = config_.head_dim;
  shape.query_stride = stride;
  shape.window = config_.window[static_cast<size_t>(index_)];
  shape.scale = config_.attention_scale *
                (config_.layer_scale.empty() ? 1.0f : config_.layer_scale[static_cast<size_t>(index_)]);
  backend_.attention(queries.data(), cache.keys, cache.values, shape, attended);
}

void Block::attention_output(const float* attended, int64_t tokens, float* x) const {
  apply(output_, attended, tokens, x, true);
}

void Block::mlp_inner(const float* h, int64_t tokens, float* inner) const {
  // Packed weights cost nothing to begin with again: what they make is activated while it is in a near cache.
  constexpr int64_t kNear = 128;
  const int64_t most = up_.weight.packed != nullptr ? std::min(tokens, kNear) : tokens;
  FloatBuffer up(gate_.empty() ? 0 : most * config_.intermediate, MemoryKind::activations);
  for (int64_t begin = 0; begin < tokens; begin += most) {
    const int64_t count = std::min(most, tokens - begin), values = count * config_.intermediate;
    const float* from = h + begin * config_.hidden;
    float* to = inner + begin * config_.intermediate;
    if (gate_.empty()) {
      apply(up_, from, count, to, false);
      backend_.activate(config_.activation, to, nullptr, values);
    } else {
      apply({{&gate_[0], to}, {&up_, up.data()}}, from, count);
      backend_.activate(config_.activation, to, up.data(), values);
    }
  }
}

void Block::mlp_output(const float* inner, int64_t tokens, float* x) const {
  apply(down_, inner, tokens, x, true);
}

void Block::forward(float* x, int64_t tokens, const RotaryTable& rotary, LayerCache cache) const {
  FloatBuffer h(tokens * config_.hidden, MemoryKind::activations);
  FloatBuffer inner(tokens * std::max(config_.intermediate, config_.heads * config_.head_dim),
                    MemoryKind::activations);
  attention_input(x, tokens, h.data());
  attend(h.data(), tokens, rotary, cache, inner.data());
  attention_output(inner.data(), tokens, x);
  mlp_input(x, tokens, h.data());
  mlp_inner(h.data(), tokens, inner.data());
  mlp_output(inner.data(), tokens, x);
}

}  // namespace qwb
