#include "lib/model/tape/taped_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/error.h"
#include "lib/exec/counter_bits.h"
#include "lib/model/tape/taped_norm.h"

namespace qwb {
namespace {

// What tells the noise of an embedding from a module's dropout.
constexpr uint64_t kNoise = uint64_t{1} << 40;

int64_t longest(const std::vector<int64_t>& documents) {
  return documents.empty() ? 0 : *std::max_element(documents.begin(), documents.end());
}

// What the model computes and the tape does not: its gradients would be those of another model.
void refuse_untaped(const ModelConfig& config, const ModelSpec& spec, const std::string& where) {
  const auto refuse = [&](bool there, const std::string& what) {
    if (there)
      throw Error(ErrorKind::unsupported, "the gradients of " + what + " are not implemented",
                  where);
  };
  refuse(!config.alibi_slopes.empty(), "attention with ALiBi");
  refuse(config.position_offset != 0, "learned positions with an offset");
  refuse(!spec.embedding_norm.empty(), "a norm of the embeddings");
  refuse(!spec.output_bias.empty(), "logits with a bias");
}

std::vector<int32_t> tokens_of(const std::vector<TrainingRows::Target>& targets) {
  std::vector<int32_t> tokens;
  for (const TrainingRows::Target& target : targets) tokens.push_back(target.token);
  return tokens;
}

}  // namespace

TapedModel::TapedModel(std::shared_ptr<const TensorSource> source, const Json& config,
                       const std::string& where, std::shared_ptr<const Executor> executor)
    : source_(std::move(source)), executor_(std::move(executor)) {
  const Architecture& architecture =
      find_architecture(json_string(config, "model_type", where), where);
  config_ = architecture.parse(config, where);
  spec_ = architecture.spec(config_, *source_);
  refuse_untaped(config_, spec_, where);
  const auto find = [&](const std::string& name, int64_t rows) {
    return executor_->prepare(
        find_weight(*source_, name, rows, config_.hidden, Orientation::out_in));
  };
  embedding_ = find(spec_.embedding, config_.vocab);
  if (!spec_.positions.empty()) positions_ = find(spec_.positions, config_.max_positions);
  output_ = find(spec_.output_embedding, config_.vocab);
  final_norm_ =
      std::make_unique<const Norm>(spec_.final_norm, config_.hidden, *source_, *executor_);
  for (int64_t i = 0; i < config_.layers; ++i)
    blocks_.emplace_back(config_, spec_.blocks[static_cast<size_t>(i)], i, *source_, *executor_);
}

TapedModel::~TapedModel() = default;

std::vector<LinearSpec> TapedModel::modules() {
  std::vector<LinearSpec> all;
  for (TapedBlock& block : blocks_) {
    for (const TapedLinear* linear : block.linears()) all.push_back(linear->spec());
  }
  return all;
}

void TapedModel::adapt(TrainedFactors& factors) {
  for (TapedBlock& block : blocks_) {
    for (TapedLinear* linear : block.linears()) {
      if (linear->spec().module != factors.module) continue;
      return linear->set_factors(&factors);
    }
  }
  throw Error(ErrorKind::not_found, "the model has no linear module '" + factors.module + "'");
}

int64_t TapedModel::tape_bytes(int64_t tokens, int64_t kept_blocks) const {
  const int64_t layers = config_.layers, kept = std::clamp<int64_t>(kept_blocks, 1, layers);
  int64_t values = (layers - kept + 4) * config_.hidden;  // entries, and the stream's own
  for (int64_t i = layers - kept; i < layers; ++i)
    values += tape_values(config_, spec_.blocks[static_cast<size_t>(i)]);
  return values * tokens * static_cast<int64_t>(sizeof(float));
}

void TapedModel::check(const TrainingRows& rows) const {
  for (const int32_t token : rows.tokens) {
    if (token >= 0 && token < config_.vocab) continue;
    throw Error(ErrorKind::usage,
                "token " + std::to_string(token) + " is outside the vocabulary of " +
                    std::to_string(config_.vocab),
                {}, "the tokenizer does not belong to this model");
  }
  const int64_t length = longest(rows.documents);
  if (!spec_.positions.empty() && length > config_.max_positions) {
    throw Error(ErrorKind::usage,
                "the model knows only " + std::to_string(config_.max_positions) + " positions");
  }
  if (config_.rope.end != 0 && length > config_.rope.end) {
    throw Error(ErrorKind::unsupported,
                "documents of more than " + std::to_string(config_.rope.end) +
                    " tokens, from where this model's longrope takes other frequencies");
  }
}

Matrix TapedModel::embed(const TrainingRows& rows) const {
  Matrix x = executor_->allocate(std::ssize(rows.tokens), config_.hidden);
  executor_->look_up(embedding_, rows.tokens, x);
  if (config_.embedding_scale != 1) executor_->scale(x, config_.embedding_scale);
  if (!spec_.positions.empty()) {
    std::vector<int32_t> places;
    for (const int64_t count : rows.documents) {
      for (int64_t i = 0; i < count; ++i) places.push_back(static_cast<int32_t>(i));
    }
    const Matrix learned = executor_->allocate(x.rows(), x.columns());
    executor_->look_up(positions_, places, learned);
    executor_->add(x, learned);
  }
  if (rows.noise > 0 && !rows.keys.empty()) add_noise(rows, x);
  return x;
}

void TapedModel::add_noise(const TrainingRows& rows, Out x) const {
  std::vector<float> noise(static_cast<size_t>(x.count()));
  size_t row = 0;
  for (const int64_t count : rows.documents) {
    const auto size = static_cast<float>(
        rows.noise / std::sqrt(static_cast<double>(count) * static_cast<double>(x.columns)));
    for (int64_t i = 0; i < count; ++i, ++row) {
      const uint64_t key = counter_bits(rows.keys[row], kNoise);
      float* to = noise.data() + row * static_cast<size_t>(x.columns);
      for (int64_t c = 0; c < x.columns; ++c)
        to[c] = (2 * counter_uniform(key, static_cast<uint64_t>(c)) - 1) * size;
    }
  }
  const Matrix there = executor_->upload(noise, MemoryKind::activations);
  executor_->add(x, there.view().as(x.rows, x.columns));
}

void TapedModel::check_finite(In x, int64_t block) const {
  if (executor_->all_finite(x)) return;
  throw Error(ErrorKind::failed, "NaN or Inf in what leaves block " + std::to_string(block));
}

Matrix TapedModel::at_targets(const TrainingRows& rows, In x) const {
  std::vector<int64_t> places;
  for (const TrainingRows::Target& target : rows.targets) places.push_back(target.row);
  Matrix chosen = executor_->allocate(std::ssize(places), x.columns);
  executor_->gather(x, places, chosen);
  return chosen;
}

std::vector<double> TapedModel::losses(const TrainingRows& rows, const StopToken& stop) const {
  check(rows);
  std::vector<double> losses(rows.targets.size());
  if (losses.empty()) return losses;
  const TapeRows on_tape{rows.documents, rows.keys};
  const RotaryTable rotary(*executor_, config_.rope, 0, longest(rows.documents));
  const Matrix x = embed(rows);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    stop.check();
    blocks_[i].forward(on_tape, rotary, x);
    check_finite(x, static_cast<int64_t>(i));
  }
  const Matrix hidden = at_targets(rows, x);
  final_norm_->apply({config_, *executor_, config_.layers}, hidden, hidden);
  executor_->losses(hidden, output_, tokens_of(rows.targets),
                    {.scale = config_.logit_scale, .cap = config_.logit_soft_cap}, losses);
  return losses;
}

// One forward and backward pass.
struct TapedModel::Pass {
  const TapedModel& model;
  const TrainingRows& rows;
  const StopToken& stop;
  TapeRows on_tape{rows.documents, rows.keys};
  RotaryTable rotary{*model.executor_, model.config_.rope, 0, longest(rows.documents)};
  // By block, from the lowest with factors on: what enters it, or its tape.
  std::vector<Matrix> entries = std::vector<Matrix>(model.blocks_.size());
  std::vector<BlockTape> tapes = std::vector<BlockTape>(model.blocks_.size());
  size_t lowest = 0;

  // What leaves the blocks.
  Matrix forward(int64_t kept_blocks) {
    const auto& blocks = model.blocks_;
    while (lowest < blocks.size() && !blocks[lowest].adapted()) ++lowest;
    const size_t kept = static_cast<size_t>(std::max<int64_t>(1, kept_blocks));
    Matrix x = model.embed(rows);
    for (size_t i = 0; i < blocks.size(); ++i) {
      stop.check();
      const bool keeps = i >= lowest && i + kept >= blocks.size();
      if (i >= lowest && !keeps) {
        entries[i] = model.executor_->allocate(x.rows(), x.columns());
        model.executor_->copy(x, entries[i]);
      }
      BlockTape tape = blocks[i].forward(on_tape, rotary, x);
      if (keeps) tapes[i] = std::move(tape);
      model.check_finite(x, static_cast<int64_t>(i));
    }
    return x;
  }

  void back(Out dx) {
    for (size_t i = model.blocks_.size(); i-- > lowest;) {
      stop.check();
      if (tapes[i].empty()) tapes[i] = model.blocks_[i].forward(on_tape, rotary, entries[i]);
      model.blocks_[i].back(on_tape, rotary, tapes[i], dx);
      tapes[i] = BlockTape();
      entries[i] = Matrix();
    }
  }
};

std::vector<double> TapedModel::gradients(const TrainingRows& rows, int64_t kept_blocks,
                                          const StopToken& stop) const {
  check(rows);
  std::vector<double> losses(rows.targets.size());
  if (losses.empty()) return losses;
  const Executor& executor = *executor_;
  Pass pass{*this, rows, stop};
  const Matrix x = pass.forward(kept_blocks);
  const LayerContext last{config_, executor, config_.layers};
  const Matrix chosen = at_targets(rows, x);
  const Matrix hidden = executor.allocate(chosen.rows(), chosen.columns());
  final_norm_->apply(last, chosen, hidden);
  std::vector<float> factors;
  std::vector<int64_t> places;
  for (const TrainingRows::Target& target : rows.targets) {
    factors.push_back(target.factor);
    places.push_back(target.row);
  }
  const Matrix dhidden = executor.allocate(hidden.rows(), hidden.columns());
  executor.training().losses_back(hidden, output_, tokens_of(rows.targets), factors,
                                  {.scale = config_.logit_scale, .cap = config_.logit_soft_cap},
                                  losses, dhidden);
  norm_back(last, *final_norm_, chosen, dhidden, dhidden, Accumulate::no);
  executor.fill(x, 0);  // the stream's memory becomes its gradient's
  executor.scatter_add(dhidden, places, std::vector<float>(places.size(), 1.0f), x);
  pass.back(x);
  return losses;
}

}  // namespace qwb
