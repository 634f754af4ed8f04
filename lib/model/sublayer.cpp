#include "lib/model/sublayer.h"

#include "lib/base/error.h"

namespace qwb {
namespace {

struct MakeMixer {
  const ModelConfig& config;
  const TensorSource& source;
  using Mixer = std::variant<Attention, Mlp, Moe>;
  Mixer operator()(const AttentionSpec& spec) const { return Attention(config, spec, source); }
  Mixer operator()(const MlpSpec& spec) const { return Mlp(spec, source); }
  Mixer operator()(const MoeSpec& spec) const { return Moe(spec, source); }
};

// The input of the module that closes a sublayer, from the norm's output h.
struct MakeInner {
  const LayerContext& layer;
  const float* h;
  const SequencePart& part;
  float* inner;
  void operator()(const Attention& mixer) const { mixer.inner(layer, h, part, inner); }
  void operator()(const Mlp& mixer) const { mixer.inner(layer, h, part.tokens, inner); }
  void operator()(const Moe& mixer) const { mixer.forward(layer, h, part.tokens, inner); }
};

struct Closing {
  const Linear* operator()(const Attention& mixer) const { return &mixer.closing(); }
  const Linear* operator()(const Mlp& mixer) const { return &mixer.closing(); }
  const Linear* operator()(const Moe&) const {
    throw Error(ErrorKind::failed, "no single module closes a mixture of experts");
  }
};

}  // namespace

Sublayer::Sublayer(const ModelConfig& config, const SublayerSpec& spec, const TensorSource& source)
    : before_(spec.before, config.hidden, source),
      after_(spec.after, config.hidden, source),
      mixer_(std::visit(MakeMixer{config, source}, spec.mixer)) {}

std::vector<int64_t> Sublayer::rows(const LayerContext& layer, const InputGroup& group,
                                    const float* x, int64_t tokens) const {
  FloatBuffer h(tokens * layer.config.hidden, MemoryKind::activations);
  before_.apply(layer, x, tokens, h.data());
  std::vector<Routed> routed = std::get<Moe>(mixer_).route(layer, h.data(), tokens);
  return std::move(routed[static_cast<size_t>(group.expert)].tokens);
}

void Sublayer::input(const LayerContext& layer, const InputGroup& group, const float* x,
                     const SequencePart& part, const std::vector<int64_t>& only,
                     float* input) const {
  const bool first = group.expert < 0 && !group.closes;
  if (first) {
    before_.apply(layer, x, part.tokens, input);
    return;
  }
  const int64_t hidden = layer.config.hidden;
  FloatBuffer h(part.tokens * hidden, MemoryKind::activations);
  before_.apply(layer, x, part.tokens, h.data());
  if (group.closes) {
    std::visit(MakeInner{layer, h.data(), part, input}, mixer_);
    return;
  }
  const Mlp& expert = std::get<Moe>(mixer_).expert(group.expert);
  const auto count = static_cast<int64_t>(only.size());
  if (group.readers.front().module != expert.closing().spec.module) {
    gather_tokens(h.data(), hidden, only, input);
    return;
  }
  FloatBuffer seen(count * hidden, MemoryKind::activations);
  gather_tokens(h.data(), hidden, only, seen.data());
  expert.inner(layer, seen.data(), count, input);
}

// x += after(output), in whose place the norm works.
void Sublayer::add(const LayerContext& layer, float* output, int64_t tokens, float* x) const {
  if (!after_.empty()) after_.apply(layer, output, tokens, output);
  layer.backend.add(x, output, tokens * layer.config.hidden);
}

void Sublayer::leave(const LayerContext& layer, const float* input, int64_t tokens,
                     float* x) const {
  const Linear& closing = *std::visit(Closing{}, mixer_);
  if (after_.empty()) {
    closing.apply(layer.backend, input, tokens, x, true);
    return;
  }
  FloatBuffer output(tokens * layer.config.hidden, MemoryKind::activations);
  closing.apply(layer.backend, input, tokens, output.data());
  add(layer, output.data(), tokens, x);
}

void Sublayer::advance(const LayerContext& layer, const SequencePart& part, float* h, float* inner,
                       float* x) const {
  before_.apply(layer, x, part.tokens, h);
  std::visit(MakeInner{layer, h, part, inner}, mixer_);
  if (has_closing()) {
    leave(layer, inner, part.tokens, x);
  } else {
    add(layer, inner, part.tokens, x);
  }
}

int64_t Sublayer::inner_size(const ModelConfig& config) const {
  return has_closing() ? std::visit(Closing{}, mixer_)->spec.in : config.hidden;
}

std::vector<Linear*> Sublayer::linears() {
  return std::visit([](auto& mixer) { return mixer.linears(); }, mixer_);
}

std::vector<const Norm*> Sublayer::all_norms() const {
  std::vector<const Norm*> all = {&before_, &after_};
  if (const auto* attention = std::get_if<Attention>(&mixer_)) {
    for (const Norm* norm : attention->norms()) all.push_back(norm);
  }
  return all;
}

}  // namespace qwb
