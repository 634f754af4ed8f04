#include "lib/model/sublayer.h"

#include "lib/base/error.h"

namespace qwb {
namespace {

struct MakeMixer {
  const ModelConfig& config;
  const TensorSource& source;
  const Executor& executor;
  using Mixer = std::variant<Attention, Mlp, Moe, Parallel>;
  Mixer operator()(const AttentionSpec& spec) const {
    return Attention(config, spec, source, executor);
  }
  Mixer operator()(const MlpSpec& spec) const { return Mlp(spec, source, executor); }
  Mixer operator()(const MoeSpec& spec) const { return Moe(spec, source, executor); }
  Mixer operator()(const ParallelSpec& spec) const {
    return Parallel(config, spec, source, executor);
  }
};

// The input of the module that closes a sublayer, from the norm's output h.
struct MakeInner {
  const LayerContext& layer;
  In x;
  In h;
  const Batch& batch;
  Out inner;
  void operator()(const Attention& mixer) const { mixer.inner(layer, h, batch, inner); }
  void operator()(const Mlp& mixer) const { mixer.inner(layer, batch.rows(h), inner); }
  void operator()(const Moe& mixer) const { mixer.forward(layer, batch.rows(h), inner); }
  void operator()(const Parallel& mixer) const { mixer.forward(layer, x, h, batch, inner); }
};

struct Closing {
  const Linear* operator()(const Attention& mixer) const { return &mixer.closing(); }
  const Linear* operator()(const Mlp& mixer) const { return &mixer.closing(); }
  const Linear* operator()(const Moe&) const {
    throw Error(ErrorKind::failed, "no single module closes a mixture of experts");
  }
  const Linear* operator()(const Parallel&) const {
    throw Error(ErrorKind::failed, "no single module closes parallel sublayers");
  }
};

}  // namespace

Sublayer::Sublayer(const ModelConfig& config, const SublayerSpec& spec, const TensorSource& source,
                   const Executor& executor)
    : before_(spec.before, config.hidden, source, executor),
      after_(spec.after, config.hidden, source, executor),
      mixer_(std::visit(MakeMixer{config, source, executor}, spec.mixer)) {}

std::vector<int64_t> Sublayer::rows(const LayerContext& layer, const InputGroup& group,
                                    In x) const {
  const Matrix h = layer.executor.allocate(x.rows, x.columns);
  enter(layer, x, h);
  std::vector<Routed> routed = std::get<Moe>(mixer_).route(layer, h);
  return std::move(routed[group.expert].tokens);
}

void Sublayer::input(const LayerContext& layer, const InputGroup& group, In x, const Batch& batch,
                     const std::vector<int64_t>& only, Out input) const {
  if (const auto* parallel = std::get_if<Parallel>(&mixer_)) {
    const Matrix h = layer.executor.allocate(x.rows, x.columns);
    enter(layer, x, h);
    return parallel->input(layer, group, x, h, batch, input);
  }
  const Executor& executor = layer.executor;
  if (const auto* moe = std::get_if<Moe>(&mixer_);
      moe != nullptr && group.expert < 0 && group.part == InputGroup::Part::mlp_inner) {
    const Matrix h = executor.allocate(x.rows, x.columns);
    enter(layer, x, h);
    return moe->shared().inner(layer, batch.rows(h), input);
  }
  const bool first = group.expert < 0 && !group.closes;
  if (first) {
    enter(layer, x, input);
    return;
  }
  const Matrix h = executor.allocate(x.rows, x.columns);
  enter(layer, x, h);
  if (group.closes) {
    std::visit(MakeInner{layer, x, h, batch, input}, mixer_);
    return;
  }
  const Mlp& expert = std::get<Moe>(mixer_).expert(group.expert);
  if (group.readers.front().module != expert.closing().spec.module) {
    executor.gather(h, only, input);
    return;
  }
  const Matrix seen = executor.allocate(std::ssize(only), x.columns);
  executor.gather(h, only, seen);
  expert.inner(layer, seen, input);
}

void Sublayer::enter(const LayerContext& layer, In x, Out h) const {
  if (before_.empty()) return layer.executor.copy(x, h);
  before_.apply(layer, x, h);
}

// x += scale * after(output), in whose place the norm works.
void Sublayer::add(const LayerContext& layer, Out output, Out x) const {
  if (!after_.empty()) after_.apply(layer, output, output);
  if (layer.config.residual_scale != 1) layer.executor.scale(output, layer.config.residual_scale);
  layer.executor.add(x, output);
}

void Sublayer::leave(const LayerContext& layer, const Rows& input, Out x) const {
  const Linear& closing = *std::visit(Closing{}, mixer_);
  if (after_.empty() && layer.config.residual_scale == 1) {
    closing.apply(layer.executor, input, x, Accumulate::yes);
    return;
  }
  const Matrix output = layer.executor.allocate(x.rows, x.columns);
  closing.apply(layer.executor, input, output);
  add(layer, output, x);
}

void Sublayer::advance(const LayerContext& layer, const Batch& batch, Out h, Out inner,
                       Out x) const {
  enter(layer, x, h);
  std::visit(MakeInner{layer, x, h, batch, inner}, mixer_);
  if (has_closing()) {
    leave(layer, batch.rows(inner), x);
  } else {
    add(layer, inner, x);
  }
}

int64_t Sublayer::inner_size(const ModelConfig& config) const {
  return has_closing() ? std::visit(Closing{}, mixer_)->spec.in : config.hidden;
}

std::vector<Linear*> Sublayer::linears() {
  return std::visit([](auto& mixer) { return mixer.linears(); }, mixer_);
}

std::vector<Norm*> Sublayer::norms() {
  std::vector<Norm*> all = {&before_, &after_};
  if (auto* parallel = std::get_if<Parallel>(&mixer_)) all.push_back(&parallel->mlp_norm());
  return all;
}

std::vector<const Norm*> Sublayer::all_norms() const {
  std::vector<const Norm*> all = {&before_, &after_};
  const auto add = [&](const std::vector<const Norm*>& more) {
    all.insert(all.end(), more.begin(), more.end());
  };
  if (const auto* parallel = std::get_if<Parallel>(&mixer_)) add(parallel->norms());
  if (const auto* attention = std::get_if<Attention>(&mixer_)) add(attention->norms());
  return all;
}

}  // namespace qwb
