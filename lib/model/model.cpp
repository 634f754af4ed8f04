#include "lib/model/model.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "lib/base/error.h"
#include "lib/codec/int8_rows.h"
#include "lib/model/block.h"
#include "lib/model/low_rank.h"

namespace qwb {

KvCache::KvCache(const Executor& executor, const ModelConfig& config, int64_t capacity)
    : capacity_(capacity) {
  if (capacity < 1) throw Error(ErrorKind::usage, "a sequence needs room for at least one token");
  const int64_t size = config.kv_heads * config.head_dim;
  for (int64_t i = 0; i < config.layers; ++i) {
    keys_.push_back(executor.allocate(capacity, size, MemoryKind::kv_cache));
    values_.push_back(executor.allocate(capacity, size, MemoryKind::kv_cache));
  }
}

int64_t KvCache::bytes() const {
  int64_t total = 0;
  for (const Matrix& keys : keys_) total += 2 * keys.bytes();
  return total;
}

int64_t kv_cache_bytes(const ModelConfig& config, int64_t capacity) {
  return 2 * config.layers * capacity * config.kv_heads * config.head_dim *
         static_cast<int64_t>(sizeof(float));
}

void KvCache::truncate(int64_t length) {
  length_ = std::clamp<int64_t>(length, 0, length_);
}

void KvCache::grow(const Executor& executor, int64_t capacity) {
  if (capacity <= capacity_) return;
  for (std::vector<Matrix>* all : {&keys_, &values_}) {
    for (Matrix& rows : *all) {
      Matrix larger = executor.allocate(capacity, rows.columns(), MemoryKind::kv_cache);
      if (length_ > 0)
        executor.copy(rows.view().row_range(0, length_), larger.view().row_range(0, length_));
      rows = std::move(larger);
    }
  }
  capacity_ = capacity;
}

LayerCache KvCache::layer(int64_t index) {
  return {keys_[index], values_[index], length_};
}

Model::Model(std::shared_ptr<const TensorSource> source, std::shared_ptr<const Executor> executor)
    : source_(std::move(source)), executor_(std::move(executor)) {}

Model::~Model() = default;

std::unique_ptr<Model> Model::load(std::shared_ptr<const TensorSource> source, const Json& config,
                                   const std::string& where,
                                   std::shared_ptr<const Executor> executor, ModelUse use) {
  if (executor == nullptr) executor = make_executor(ExecutorKind::fast, Threads());
  std::unique_ptr<Model> model(new Model(std::move(source), std::move(executor)));
  const Architecture& architecture =
      find_architecture(json_string(config, "model_type", where), where);
  model->config_ = architecture.parse(config, where);
  const ModelConfig& c = model->config_;
  const TensorSource& tensors = *model->source_;
  model->spec_ = architecture.spec(c, tensors);
  const ModelSpec& spec = model->spec_;
  const Executor& device = *model->executor_;
  const auto find = [&](const std::string& name, int64_t rows) {
    return device.prepare(find_weight(tensors, name, rows, c.hidden, Orientation::out_in));
  };
  model->embedding_ = find(spec.embedding, c.vocab);
  if (!spec.positions.empty())
    model->positions_ = find(spec.positions, c.position_offset + c.max_positions);
  model->output_ = find(spec.output_embedding, c.vocab);
  model->final_norm_ = std::make_unique<Norm>(spec.final_norm, c.hidden, tensors, device);
  model->embedding_norm_ = std::make_unique<Norm>(spec.embedding_norm, c.hidden, tensors, device);
  if (!spec.output_bias.empty()) {
    model->output_bias_ =
        device.upload(find_vector(tensors, spec.output_bias, c.vocab), MemoryKind::weights);
  }
  // Where they do not run they are checked and counted all the same, on the host, without copies.
  if (use == ModelUse::single_blocks && device.device() != nullptr)
    model->listing_ = make_executor(ExecutorKind::reference, Threads(1));
  const Executor& of_blocks = model->listing_ != nullptr ? *model->listing_ : device;
  for (int64_t i = 0; i < c.layers; ++i)
    model->blocks_.emplace_back(c, spec.blocks[i], i, tensors, of_blocks);
  model->count_weights();
  return model;
}

void Model::count_weights() {
  WeightCount count;
  for (const Prepared* weight : {&embedding_, &output_}) count.add(weight->stored());
  if (!spec_.positions.empty()) count.add(positions_.stored());
  for (const Norm* norm : {final_norm_.get(), embedding_norm_.get()})
    count.add_floats(norm->gain.size() + norm->bias.size());
  count.add_floats(spec_.output_bias.empty() ? 0 : output_bias_.columns());
  for (const auto& addition : output_additions_) count.add_floats(addition->values());
  for (const Block& block : blocks_) block.count_weights(count);
  weight_bytes_ = count.bytes();
  mapped_claim_ = MemoryClaim(MemoryKind::mapped_weights, weight_bytes_.mapped);
}

void Model::attach(const std::string& module, std::shared_ptr<const LowRank> addition) {
  if (module == spec_.output_embedding) {
    if (addition->in() != config_.hidden || addition->out() != config_.vocab)
      throw Error(ErrorKind::failed,
                  "the adapter is of a module " + shape_text({addition->out(), addition->in()}) +
                      ", the model's is " + shape_text({config_.vocab, config_.hidden}),
                  module);
    output_additions_.push_back(std::move(addition));
    return count_weights();
  }
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const std::vector<LinearSpec> linears = block_linears(spec_.blocks[i]);
    if (std::ranges::none_of(linears, [&](const auto& l) { return l.module == module; })) continue;
    blocks_[i].attach(module, std::move(addition));
    return count_weights();
  }
  throw Error(ErrorKind::not_found, "the model has no linear module '" + module + "'");
}

int64_t Model::int8_modules() const {
  const auto is_int8 = [](const Weight& weight) { return weight.as<Int8Rows>() != nullptr; };
  int64_t count = is_int8(output_.stored()) ? 1 : 0;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    for (const LinearSpec& linear : block_linears(spec_.blocks[i]))
      count += is_int8(blocks_[i].weight(linear.module));
  }
  return count;
}

void Model::check_length(int64_t tokens) const {
  if (!spec_.positions.empty() && tokens > config_.max_positions) {
    throw Error(ErrorKind::usage,
                "the model knows only " + std::to_string(config_.max_positions) + " positions");
  }
  const int64_t end = config_.rope.end;
  if (end == 0 || tokens <= end) return;
  throw Error(ErrorKind::unsupported,
              "a text of " + std::to_string(tokens) + " tokens: behind " + std::to_string(end) +
                  " this model's longrope takes other frequencies for all of it",
              {}, "take texts of at most " + std::to_string(end) + " tokens");
}

void Model::check_tokens(std::span<const int32_t> tokens, const KvCache& cache) const {
  const auto count = static_cast<int64_t>(tokens.size());
  if (cache.length() + count > cache.capacity()) {
    throw Error(ErrorKind::usage, "the sequence of " + std::to_string(cache.length() + count) +
                                      " tokens does not fit the context of " +
                                      std::to_string(cache.capacity()));
  }
  check_length(cache.length() + count);
  for (const int32_t token : tokens) {
    if (token < 0 || token >= config_.vocab) {
      throw Error(ErrorKind::usage,
                  "token " + std::to_string(token) + " is outside the vocabulary of " +
                      std::to_string(config_.vocab),
                  {}, "the tokenizer does not belong to this model");
    }
  }
}

void Model::embed(std::span<const int32_t> tokens, int64_t first_position, Out x) const {
  embed(tokens, first_position, embedding_, x);
}

void Model::embed(std::span<const int32_t> tokens, int64_t first_position,
                  const Prepared& embedding, Out x) const {
  executor_->look_up(embedding, tokens, x);
  if (config_.embedding_scale != 1) executor_->scale(x, config_.embedding_scale);
  if (!embedding_norm_->empty()) embedding_norm_->apply({config_, *executor_, 0}, x, x);
  if (spec_.positions.empty()) return;
  std::vector<int32_t> places(tokens.size());
  std::iota(places.begin(), places.end(),
            static_cast<int32_t>(config_.position_offset + first_position));
  const Matrix learned = executor_->allocate(x.rows, x.columns);
  executor_->look_up(positions_, places, learned);
  executor_->add(x, learned);
}

void Model::forward(std::span<const int32_t> tokens, KvCache& cache, Out hidden,
                    const StopToken& stop) const {
  const Sequence sequence{tokens, &cache, stop};
  const auto errors = forward(std::span(&sequence, 1), hidden);
  if (errors[0]) throw Error(*errors[0]);
}

void Model::final_norm(In x, Out hidden) const {
  final_norm_->apply({config_, *executor_, config_.layers}, x, hidden);
}

void Model::logits(const Rows& hidden, Out logits) const {
  executor_->linear(hidden, {output_, spec_.output_bias.empty() ? In() : In(output_bias_)}, logits);
  for (const auto& addition : output_additions_) addition->add_to(*executor_, hidden, logits);
  if (config_.logit_scale != 1) executor_->scale(logits, config_.logit_scale);
  if (config_.logit_soft_cap != 0) executor_->soft_cap(logits, config_.logit_soft_cap);
}

void Model::token_losses(In hidden, std::span<const int32_t> targets,
                         std::span<double> losses) const {
  if (!output_additions_.empty() || !spec_.output_bias.empty())
    return losses_of_logits(hidden, targets, losses);
  executor_->losses(hidden, output_, targets,
                    {.scale = config_.logit_scale, .cap = config_.logit_soft_cap}, losses);
}

// Where the logits are more than one product: they are held whole, of some rows at a time.
void Model::losses_of_logits(In hidden, std::span<const int32_t> targets,
                             std::span<double> losses) const {
  constexpr int64_t kValues = int64_t{16} << 20;
  const int64_t step = std::max<int64_t>(1, kValues / config_.vocab);
  for (int64_t first = 0; first < hidden.rows; first += step) {
    const int64_t count = std::min(step, hidden.rows - first);
    const Matrix made = executor_->allocate(count, config_.vocab);
    logits(hidden.row_range(first, count), made);
    std::vector<RowDivergence> rows(static_cast<size_t>(count));
    executor_->divergence(made, made, targets.subspan(static_cast<size_t>(first), rows.size()),
                          rows);
    for (size_t r = 0; r < rows.size(); ++r) {
      losses[static_cast<size_t>(first) + r] =
          rows[r].finite ? rows[r].base_loss : std::numeric_limits<double>::quiet_NaN();
    }
  }
}

}  // namespace qwb
