#include "lib/model/tape/taped_block.h"

#include <algorithm>

#include "lib/model/tape/taped_norm.h"

namespace qwb {

struct TapedSublayer::MakeMixer {
  const ModelConfig& config;
  const TensorSource& source;
  const Executor& executor;
  Mixer operator()(const AttentionSpec& spec) const {
    return TapedAttention(config, spec, source, executor);
  }
  Mixer operator()(const MlpSpec& spec) const { return TapedMlp(spec, source, executor); }
  Mixer operator()(const MoeSpec& spec) const { return TapedMoe(spec, source, executor); }
  Mixer operator()(const ParallelSpec& spec) const {
    return Parallel{TapedAttention(config, spec.attention, source, executor),
                    Norm(spec.mlp_norm, config.hidden, source, executor),
                    TapedMlp(spec.mlp, source, executor)};
  }
};

// The output of the mixer, which reads tape.h.
struct TapedSublayer::Forward {
  const LayerContext& layer;
  const TapeRows& rows;
  const RotaryTable& rotary;
  In x;
  SublayerTape& tape;
  Out output;

  void operator()(const TapedAttention& mixer) const {
    AttentionTape& own = tape.mixer.emplace<AttentionTape>();
    mixer.forward(layer, rows, rotary, tape.h, own);
    tape.closing = mixer.closing().forward(layer.executor, rows, own.attended, output);
  }
  void operator()(const TapedMlp& mixer) const {
    MlpTape& own = tape.mixer.emplace<MlpTape>();
    mixer.forward(layer, rows, tape.h, own);
    tape.closing = mixer.closing().forward(layer.executor, rows, own.inner, output);
  }
  void operator()(const TapedMoe& mixer) const {
    mixer.forward(layer, rows, tape.h, tape.mixer.emplace<MoeTape>(), output);
  }
  void operator()(const Parallel& mixer) const {
    const Executor& executor = layer.executor;
    ParallelTape& own = tape.mixer.emplace<ParallelTape>();
    mixer.attention.forward(layer, rows, rotary, tape.h, own.attention);
    own.attention_output =
        mixer.attention.closing().forward(executor, rows, own.attention.attended, output);
    if (!mixer.mlp_norm.empty()) {
      own.mlp_input = executor.allocate(x.rows, x.columns);
      mixer.mlp_norm.apply(layer, x, own.mlp_input);
    }
    mixer.mlp.forward(layer, rows, mixer.mlp_norm.empty() ? tape.h : own.mlp_input, own.mlp);
    const Matrix other = executor.allocate(x.rows, x.columns);
    own.mlp_output = mixer.mlp.closing().forward(executor, rows, own.mlp.inner, other);
    executor.add(output, other);
  }
};

// dh, the gradient by tape.h, from that by the mixer's output; what is not by h is added to dx.
struct TapedSublayer::Back {
  const LayerContext& layer;
  const TapeRows& rows;
  const RotaryTable& rotary;
  const SublayerTape& tape;
  In doutput;
  Out dh, dx;

  Matrix through(const TapedLinear& closing, In input, In inner) const {
    Matrix dinput = layer.executor.allocate(input.rows, input.columns);
    closing.back(layer.executor, rows, input, inner, doutput, dinput, Accumulate::no);
    return dinput;
  }
  void operator()(const TapedAttention& mixer) const {
    const auto& own = std::get<AttentionTape>(tape.mixer);
    mixer.back(layer, rows, rotary, tape.h, own,
               through(mixer.closing(), own.attended, tape.closing), dh, Accumulate::no);
  }
  void operator()(const TapedMlp& mixer) const {
    const auto& own = std::get<MlpTape>(tape.mixer);
    mixer.back(layer, rows, tape.h, own, through(mixer.closing(), own.inner, tape.closing), dh,
               Accumulate::no);
  }
  void operator()(const TapedMoe& mixer) const {
    mixer.back(layer, rows, tape.h, std::get<MoeTape>(tape.mixer), doutput, dh);
  }
  void operator()(const Parallel& mixer) const {
    const auto& own = std::get<ParallelTape>(tape.mixer);
    mixer.attention.back(
        layer, rows, rotary, tape.h, own.attention,
        through(mixer.attention.closing(), own.attention.attended, own.attention_output), dh,
        Accumulate::no);
    const Matrix dinner = through(mixer.mlp.closing(), own.mlp.inner, own.mlp_output);
    if (mixer.mlp_norm.empty())
      return mixer.mlp.back(layer, rows, tape.h, own.mlp, dinner, dh, Accumulate::yes);
    const Matrix dinput = layer.executor.allocate(dh.rows, dh.columns);
    mixer.mlp.back(layer, rows, own.mlp_input, own.mlp, dinner, dinput, Accumulate::no);
    norm_back(layer, mixer.mlp_norm, tape.x, dinput, dx, Accumulate::yes);
  }
};

TapedSublayer::TapedSublayer(const ModelConfig& config, const SublayerSpec& spec,
                             const TensorSource& source, const Executor& executor)
    : before_(spec.before, config.hidden, source, executor),
      after_(spec.after, config.hidden, source, executor),
      mixer_(std::visit(MakeMixer{config, source, executor}, spec.mixer)) {}

void TapedSublayer::forward(const LayerContext& layer, const TapeRows& rows,
                            const RotaryTable& rotary, Out x, SublayerTape& tape) const {
  const Executor& executor = layer.executor;
  tape.h = executor.allocate(x.rows, x.columns);
  if (before_.empty()) {
    executor.copy(x, tape.h);
  } else {
    tape.x = executor.allocate(x.rows, x.columns);
    executor.copy(x, tape.x);
    before_.apply(layer, x, tape.h);
  }
  Matrix output = executor.allocate(x.rows, x.columns);
  std::visit(Forward{layer, rows, rotary, x, tape, output}, mixer_);
  if (!after_.empty()) {
    tape.output = executor.allocate(x.rows, x.columns);
    executor.copy(output, tape.output);
    after_.apply(layer, output, output);
  }
  if (layer.config.residual_scale != 1) executor.scale(output, layer.config.residual_scale);
  executor.add(x, output);
}

void TapedSublayer::back(const LayerContext& layer, const TapeRows& rows, const RotaryTable& rotary,
                         const SublayerTape& tape, Out dx) const {
  const Executor& executor = layer.executor;
  const Matrix doutput = executor.allocate(dx.rows, dx.columns);
  executor.copy(dx, doutput);
  if (layer.config.residual_scale != 1) executor.scale(doutput, layer.config.residual_scale);
  if (!after_.empty()) norm_back(layer, after_, tape.output, doutput, doutput, Accumulate::no);
  const Matrix dh = executor.allocate(dx.rows, dx.columns);
  std::visit(Back{layer, rows, rotary, tape, doutput, dh, dx}, mixer_);
  if (before_.empty()) {
    executor.add(dx, dh);
  } else {
    norm_back(layer, before_, tape.x, dh, dx, Accumulate::yes);
  }
}

std::vector<TapedLinear*> TapedSublayer::linears() {
  if (auto* attention = std::get_if<TapedAttention>(&mixer_)) return attention->linears();
  if (auto* mlp = std::get_if<TapedMlp>(&mixer_)) return mlp->linears();
  if (auto* moe = std::get_if<TapedMoe>(&mixer_)) return moe->linears();
  auto& parallel = std::get<Parallel>(mixer_);
  std::vector<TapedLinear*> all = parallel.attention.linears();
  for (TapedLinear* linear : parallel.mlp.linears()) all.push_back(linear);
  return all;
}

TapedBlock::TapedBlock(const ModelConfig& config, const BlockSpec& spec, int64_t index,
                       const TensorSource& source, const Executor& executor)
    : config_(config), executor_(executor), index_(index) {
  for (const SublayerSpec& sublayer : spec.sublayers)
    sublayers_.emplace_back(config, sublayer, source, executor);
}

BlockTape TapedBlock::forward(const TapeRows& rows, const RotaryTable& rotary, Out x) const {
  BlockTape tape(sublayers_.size());
  for (size_t i = 0; i < tape.size(); ++i) sublayers_[i].forward(layer(), rows, rotary, x, tape[i]);
  return tape;
}

void TapedBlock::back(const TapeRows& rows, const RotaryTable& rotary, const BlockTape& tape,
                      Out dx) const {
  for (size_t i = tape.size(); i-- > 0;) sublayers_[i].back(layer(), rows, rotary, tape[i], dx);
}

std::vector<TapedLinear*> TapedBlock::linears() {
  std::vector<TapedLinear*> all;
  for (TapedSublayer& sublayer : sublayers_) {
    for (TapedLinear* linear : sublayer.linears()) all.push_back(linear);
  }
  return all;
}

bool TapedBlock::adapted() const {
  const auto linears = const_cast<TapedBlock*>(this)->linears();
  return std::any_of(linears.begin(), linears.end(),
                     [](const TapedLinear* linear) { return linear->adapted(); });
}

namespace {

// Values of a mixer's tape for each token.
struct MixerValues {
  const ModelConfig& config;
  int64_t operator()(const AttentionSpec& spec) const {
    const int64_t width = config.heads * config.head_dim,
                  shared = config.kv_heads * config.head_dim;
    const int64_t bare = (spec.q_norm.empty() ? 0 : width) + (spec.k_norm.empty() ? 0 : shared);
    return 2 * width + 2 * shared + config.heads + bare;
  }
  int64_t operator()(const MlpSpec& spec) const {
    return (spec.gate.empty() && !spec.fused ? 2 : 3) * spec.down.in;
  }
  int64_t operator()(const MoeSpec& spec) const {  // each token's rows in each of its experts
    return spec.used * (2 * config.hidden + (*this)(spec.experts.front()));
  }
  int64_t operator()(const ParallelSpec& spec) const {
    return (*this)(spec.attention) + (*this)(spec.mlp) +
           (spec.mlp_norm.empty() ? 0 : config.hidden);
  }
};

}  // namespace

int64_t tape_values(const ModelConfig& config, const BlockSpec& spec) {
  int64_t values = 0;
  for (const SublayerSpec& sublayer : spec.sublayers) {
    const int64_t streams =
        1 + (sublayer.before.empty() ? 0 : 1) + (sublayer.after.empty() ? 0 : 1);
    values += streams * config.hidden + std::visit(MixerValues{config}, sublayer.mixer);
  }
  return values;
}

}  // namespace qwb
