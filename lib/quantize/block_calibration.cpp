#include "lib/quantize/block_calibration.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/memory.h"
#include "lib/base/parallel.h"
#include "lib/codec/dense.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/linear.h"
#include "lib/exec/cpu/matmul.h"

namespace qwb {
namespace {

// Floats of inputs that are held at once before they are added to the moments: long inner products
// for the matrix library, and enough windows for the threads to share.
constexpr int64_t kBatchFloats = int64_t{14} << 18;
constexpr int64_t kBatchTokens = 3072;

std::vector<float> means(const std::vector<double>& sums, int64_t tokens) {
  std::vector<float> result(sums.size());
  for (size_t i = 0; i < sums.size(); ++i)
    result[i] = static_cast<float>(sums[i] / static_cast<double>(tokens));
  return result;
}

// m [rows, columns] -= tokens * left right^T
void subtract_means(const FloatBuffer& m, int64_t columns, int64_t tokens,
                    const std::vector<double>& left, const std::vector<double>& right,
                    const Context& context) {
  parallel_for(context, static_cast<int64_t>(left.size()), [&](int64_t i) {
    const double factor = left[static_cast<size_t>(i)] / static_cast<double>(tokens);
    float* row = m.data() + i * columns;
    for (int64_t j = 0; j < columns; ++j)
      row[j] = static_cast<float>(row[j] - factor * right[static_cast<size_t>(j)]);
  });
}

const FloatBuffer& grown(FloatBuffer& buffer, int64_t count) {
  if (buffer.size() < count) {
    buffer = {};
    buffer = FloatBuffer(count);
  }
  return buffer;
}

// difference -= from
void subtract(const float* from, int64_t count, float* difference) {
  for (int64_t k = 0; k < count; ++k) difference[k] -= from[k];
}

FloatBuffer zeros(int64_t count) {
  FloatBuffer buffer(count);
  std::fill_n(buffer.data(), count, 0.0f);
  return buffer;
}

}  // namespace

int64_t batch_windows(int64_t length, int64_t size, int64_t windows) {
  const int64_t tokens = std::min(kBatchTokens, kBatchFloats / size);
  return std::clamp<int64_t>(tokens / length, 1, windows);
}

CalibrationMemory::CalibrationMemory(const Model& model, const CalibrationSet& calibration,
                                     const Path& scratch, Threads threads)
    : kept(calibration.tokens(), widest_closing_input(model.config(), model.spec().blocks),
           scratch),
      x(model.executor().products(), Operand::Side::both, threads),
      aim(model.executor().products(), Operand::Side::left, threads) {}

BlockCalibration::BlockCalibration(const Model& model, int64_t index, ResidualStream& stream,
                                   ResidualStream* reference, CalibrationMemory& memory,
                                   const Context& context)
    : model_(model),
      stream_(stream),
      reference_(reference),
      memory_(memory),
      context_(context),
      block_(model.config(), model.spec().blocks[static_cast<size_t>(index)], index, model.source(),
             model.executor()),
      rotary_(model.executor(), model.config().rope, 0, stream.length()),
      index_(index) {
  block_.prepare_often();
  if (reference_ != nullptr) original_.emplace(block_);
}

void BlockCalibration::prepare(const Gather& gather) {
  const int64_t size = gather.size;
  moments_ = {};
  hessian_ = FloatBuffer();
  cross_ = FloatBuffer();
  if (gather.request.moments) {
    hessian_ = zeros(size * size);
    moments_.hessian = hessian_.data();
  }
  if (gather.request.drift) {
    cross_ = zeros(gather.aim_size * size);
    (gather.group.adds ? moments_.wanted : moments_.drift) = cross_.data();
  }
  input_offset_.clear();
  aim_offset_.clear();
  input_sums_.assign(static_cast<size_t>(size), 0.0);
  aim_sums_.assign(static_cast<size_t>(gather.aim_size), 0.0);
  if (gather.group.closes) memory_.kept.reshape(size);
}

void BlockCalibration::add_means(const FloatBuffer& values, int64_t rows,
                                 std::vector<double>& sums) const {
  const auto columns = static_cast<int64_t>(sums.size());
  parallel_ranges(context_, columns, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = begin; c < end; ++c) sums[static_cast<size_t>(c)] += values[r * columns + c];
    }
  });
}

// Takes the mean of the first batch out: what the sums then hold of the means is small, and taking
// it out loses no digits, not even of bf16.
void BlockCalibration::shift(const FloatBuffer& values, int64_t rows, int64_t columns,
                             std::vector<float>& offset) const {
  if (offset.empty()) {
    std::vector<double> sums(static_cast<size_t>(columns));
    add_means(values, rows, sums);
    offset = means(sums, rows);
  }
  parallel_for(context_, rows, [&](int64_t r) {
    float* row = values.data() + r * columns;
    for (int64_t c = 0; c < columns; ++c) row[c] -= offset[static_cast<size_t>(c)];
  });
}

void BlockCalibration::collect(const Gather& gather) {
  const int64_t length = stream_.length();
  prepare(gather);
  if (leaves_ || block_.has_closing(gather.group.sublayer)) applied_ = std::exchange(replaced_, {});
  const bool aims_wanted = gather.request.drift;
  const int64_t batch = batch_windows(length, gather.size, stream_.windows());
  const FloatBuffer& inputs = grown(memory_.inputs, batch * length * gather.size);
  const FloatBuffer& aims = grown(memory_.aims, aims_wanted ? batch * length * gather.aim_size : 0);
  std::vector<int64_t> rows(static_cast<size_t>(batch));
  for (int64_t first = 0; first < stream_.windows(); first += batch) {
    context_.stop.check();
    const int64_t count = std::min(batch, stream_.windows() - first);
    for_windows(context_, first, count, [&](int64_t w) {
      const int64_t place = (w - first) * length;
      const Places out{inputs.data() + place * gather.size,
                       aims_wanted ? aims.data() + place * gather.aim_size : nullptr};
      rows[static_cast<size_t>(w - first)] = observe_window(gather, w, out);
    });
    rows.resize(static_cast<size_t>(count));
    if (gather.group.expert >= 0) compact(gather, rows);
    add_batch(gather, std::accumulate(rows.begin(), rows.end(), int64_t{0}));
  }
  if (gather.request.moments) mirror_moments(hessian_.data(), gather.size, context_.threads);
  if (gather.request.centred && moments_.tokens > 0) take_out_means(gather.group.adds);
  for (const auto& [module, memory] : applied_) block_.release(module);
  applied_.clear();
  // What was freed on the way lies between what stays and would be held besides what the methods
  // take now: 16 MB of the 500 that SmolLM2 takes with 65,536 tokens. Once an observation it costs
  // nothing to fault them in again.
  memory_phase_ended();
}

// Adds the first `rows` rows of the batch.
void BlockCalibration::add_batch(const Gather& gather, int64_t rows) {
  const MomentsRequest& request = gather.request;
  moments_.tokens += rows;
  if (!request.moments || rows == 0) return;
  if (request.centred) {
    shift(memory_.inputs, rows, gather.size, input_offset_);
    shift(memory_.aims, rows, gather.aim_size, aim_offset_);
    add_means(memory_.inputs, rows, input_sums_);
    add_means(memory_.aims, rows, aim_sums_);
  }
  memory_.x.set(memory_.inputs.data(), rows, gather.size);
  add_moments(memory_.x, rows, hessian_.data());
  if (!request.drift) return;
  memory_.aim.set(memory_.aims.data(), rows, gather.aim_size);
  add_products(memory_.aim, memory_.x, rows, cross_.data());
}

// The rows of all windows of a batch, which begin `length` rows apart, one behind the other.
void BlockCalibration::compact(const Gather& gather, const std::vector<int64_t>& rows) {
  const auto move = [&](const FloatBuffer& values, int64_t columns) {
    float* to = values.data();
    for (size_t w = 0; w < rows.size(); ++w) {
      const float* from = values.data() + static_cast<int64_t>(w) * stream_.length() * columns;
      to = std::copy(from, from + rows[w] * columns, to);
    }
  };
  move(memory_.inputs, gather.size);
  if (gather.request.drift) move(memory_.aims, gather.aim_size);
}

void BlockCalibration::take_out_means(bool adds) {
  const int64_t tokens = moments_.tokens;
  const auto size = static_cast<int64_t>(input_sums_.size());
  const auto whole = [&](const std::vector<double>& sums, const std::vector<float>& offset) {
    std::vector<float> mean = means(sums, tokens);
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += offset[i];
    return mean;
  };
  moments_.input_mean = whole(input_sums_, input_offset_);
  (adds ? moments_.wanted_mean : moments_.drift_mean) = whole(aim_sums_, aim_offset_);
  moments_.centred = true;
  subtract_means(hessian_, size, tokens, input_sums_, input_sums_, context_);
  for (int64_t i = 0; i < size; ++i)
    hessian_[i * size + i] = std::max(hessian_[i * size + i], 0.0f);
  subtract_means(cross_, size, tokens, aim_sums_, input_sums_, context_);
}

void BlockCalibration::input(const Block& block, const InputGroup& group, const float* x,
                             const std::vector<int64_t>& only, float* out) const {
  const ModelConfig& c = model_.config();
  const int64_t length = group.closes ? stream_.length() : 0,
                rows = static_cast<int64_t>(
                    group.expert >= 0 ? only.size() : static_cast<size_t>(stream_.length()));
  const Matrix keys = model_.executor().allocate(length, c.kv_heads * c.head_dim),
               values = model_.executor().allocate(length, c.kv_heads * c.head_dim);
  block.input(group, In(x, stream_.length(), c.hidden),
              {stream_.length(), rotary_, {keys, values, 0}}, only, Out(out, rows, group.in()));
}

void BlockCalibration::advance(const Block& block, size_t sublayer, float* x) const {
  block.advance(sublayer, {stream_.length(), rotary_, {}}, stream(x));
}

// x: the window's stream where the sublayer under observation begins.
void BlockCalibration::enter(int64_t window, float* x) {
  const int64_t length = stream_.length();
  stream_.load(window, x);
  if (!leaves_) return;
  if (block_.has_closing(*leaves_)) {
    FloatBuffer input(length * memory_.kept.columns());
    memory_.kept.load(window * length, length, input.data());
    block_.leave(*leaves_, In(input.data(), length, memory_.kept.columns()), stream(x));
    stream_.store(window, x);
    return;
  }
  advance(block_, *leaves_, x);
  stream_.store(window, x);
  if (reference_ == nullptr) return;
  FloatBuffer original(length * model_.config().hidden);
  reference_->load(window, original.data());
  advance(*original_, *leaves_, original.data());
  reference_->store(window, original.data());
}

void BlockCalibration::check_finite(const Gather& gather, int64_t rows, const Places& out) const {
  const Executor& executor = model_.executor();
  if (!executor.all_finite({out.input, rows, gather.size}) ||
      (out.aim != nullptr && !executor.all_finite({out.aim, rows, gather.aim_size}))) {
    throw Error(ErrorKind::failed,
                "NaN or Inf in the activations of block " + std::to_string(index_));
  }
}

// Computes the inputs and aims of one window; returns how many rows there are.
int64_t BlockCalibration::observe_window(const Gather& gather, int64_t window, const Places& out) {
  const InputGroup& group = gather.group;
  const int64_t length = stream_.length(), hidden = model_.config().hidden;
  FloatBuffer x(length * hidden);
  enter(window, x.data());
  std::vector<int64_t> only;
  if (group.expert >= 0) only = block_.rows(group, stream(x.data()));
  const int64_t rows = group.expert >= 0 ? static_cast<int64_t>(only.size()) : length;
  input(block_, group, x.data(), only, out.input);
  if (group.closes) memory_.kept.store(window * length, length, out.input);
  if (reference_ != nullptr && group.closes) {
    close_original(gather, x.data(), window, out.aim);
    if (out.aim != nullptr && !group.adds) subtract(out.input, rows * gather.size, out.aim);
  } else if (out.aim != nullptr) {
    reference_->load(window, x.data());
    input(*original_, group, x.data(), only, out.aim);
    subtract(out.input, rows * gather.size, out.aim);
  }
  check_finite(gather, rows, out);
  return rows;
}

// The original's stream leaves the sublayer. aim, unless null: what the module is to add to x, or
// the original's input where what it makes is not added as it is.
void BlockCalibration::close_original(const Gather& gather, const float* x, int64_t window,
                                      float* aim) {
  const InputGroup& group = gather.group;
  const int64_t length = stream_.length(), hidden = model_.config().hidden, count = length * hidden;
  FloatBuffer own_input(length * gather.size), own_stream(group.adds && aim != nullptr ? 0 : count);
  float* r = group.adds && aim != nullptr ? aim : own_stream.data();
  float* input_of_original = !group.adds && aim != nullptr ? aim : own_input.data();
  reference_->load(window, r);
  input(*original_, group, r, {}, input_of_original);
  original_->leave(group.sublayer, In(input_of_original, length, gather.size), stream(r));
  reference_->store(window, r);
  if (!group.adds || aim == nullptr) return;
  subtract(x, count, aim);
  const std::vector<float> bias = block_.bias(group.readers.front().module);
  for (int64_t t = 0; t < length && !bias.empty(); ++t)
    subtract(bias.data(), hidden, aim + t * hidden);
}

const Moments& BlockCalibration::observe(size_t group, const MomentsRequest& request) {
  const InputGroup& wanted = block_.groups()[group];
  leaves_.reset();
  if (wanted.sublayer != at_) leaves_ = at_;
  at_ = wanted.sublayer;
  collect({wanted, request, wanted.in(), wanted.adds ? model_.config().hidden : wanted.in()});
  leaves_.reset();
  return moments_;
}

void BlockCalibration::replace(const std::string& module, const Weight& weight) {
  const int64_t count = weight.out * weight.in;
  const bool narrow = model_.executor().products() == Products::bf16;
  const DType type = narrow ? DType::bf16 : DType::f32;
  AlignedBuffer kept(count * dtype_size(type));
  if (narrow) {
    const FloatBuffer values(count);
    dequantize(weight, values.data(), context_.threads);
    to_bf16(values.data(), count, reinterpret_cast<uint16_t*>(kept.data()), context_.threads);
  } else {
    dequantize(weight, reinterpret_cast<float*>(kept.data()), context_.threads);
  }
  const Shape shape = weight.orientation == Orientation::out_in ? Shape{weight.out, weight.in}
                                                                : Shape{weight.in, weight.out};
  const Bytes bytes(kept.data(), static_cast<size_t>(kept.size()));
  Weight dense{weight.out, weight.in, weight.orientation, DenseWeight{{type, shape, bytes}}};
  block_.set_weight(module, dense);
  replaced_[module] = std::move(kept);
}

void BlockCalibration::set_bias(const std::string& module, const std::vector<float>& bias) {
  block_.set_bias(module, bias);
}

void BlockCalibration::set_norm(const std::string& module, const std::vector<float>& gain,
                                const std::vector<float>& bias) {
  block_.set_norm(module, gain, bias);
}

void BlockCalibration::finish() {
  const int64_t length = stream_.length();
  leaves_ = at_;
  const int64_t batch = batch_windows(length, memory_.kept.columns(), stream_.windows());
  const auto body = [&](int64_t w) {
    FloatBuffer x(length * model_.config().hidden);
    enter(w, x.data());
  };
  for (int64_t first = 0; first < stream_.windows(); first += batch)
    for_windows(context_, first, std::min(batch, stream_.windows() - first), body);
  leaves_.reset();
}

OutputCalibration::OutputCalibration(const Model& model, const ResidualStream& stream,
                                     const ResidualStream* reference, const MomentsRequest& request,
                                     const Context& context)
    : hessian_(zeros(model.config().hidden * model.config().hidden)) {
  const int64_t hidden = model.config().hidden, length = stream.length();
  const Products products = model.executor().products();
  const bool drift = request.drift && reference != nullptr;
  moments_.tokens = stream.windows() * length;
  moments_.hessian = hessian_.data();
  if (drift) {
    drift_ = zeros(hidden * hidden);
    moments_.drift = drift_.data();
  }
  const int64_t batch = batch_windows(length, hidden, stream.windows());
  const FloatBuffer inputs(batch * length * hidden), drifts(drift ? inputs.size() : 0);
  Operand operand(products, Operand::Side::both, context.threads),
      other(products, Operand::Side::left, context.threads);
  const auto final_input = [&](const ResidualStream& from, int64_t w, float* input) {
    FloatBuffer x(length * hidden);
    from.load(w, x.data());
    model.final_norm(In(x.data(), length, hidden), Out(input, length, hidden));
    if (!model.executor().all_finite({input, length, hidden}))
      throw Error(ErrorKind::failed, "NaN or Inf in the output of the last block");
  };
  for (int64_t first = 0; first < stream.windows(); first += batch) {
    context.stop.check();
    const int64_t count = std::min(batch, stream.windows() - first), rows = count * length;
    parallel_for(context, count, [&](int64_t i) {
      float* input = inputs.data() + i * length * hidden;
      final_input(stream, first + i, input);
      if (!drift) return;
      float* difference = drifts.data() + i * length * hidden;
      final_input(*reference, first + i, difference);
      for (int64_t k = 0; k < length * hidden; ++k) difference[k] -= input[k];
    });
    operand.set(inputs.data(), rows, hidden);
    add_moments(operand, rows, hessian_.data());
    if (!drift) continue;
    other.set(drifts.data(), rows, hidden);
    add_products(other, operand, rows, drift_.data());
  }
  mirror_moments(hessian_.data(), hidden, context.threads);
}

int64_t trial_windows(const Model& model, const CalibrationSet& calibration) {
  return batch_windows(calibration.length,
                       widest_closing_input(model.config(), model.spec().blocks),
                       static_cast<int64_t>(calibration.windows.size()));
}

ActivationBytes activation_bytes(const Model& model, const CalibrationSet& calibration,
                                 bool reference) {
  const int64_t tokens = calibration.tokens();
  return {(reference ? 2 : 1) * HalfRows::bytes(tokens, model.config().hidden),
          HalfRows::bytes(tokens, widest_closing_input(model.config(), model.spec().blocks))};
}

int64_t calibration_memory(const Model& model, const CalibrationSet& calibration, bool reference) {
  const ModelConfig& c = model.config();
  const std::vector<BlockSpec>& blocks = model.spec().blocks;
  const int64_t length = calibration.length, widest = widest_input(c, blocks);
  const auto windows = static_cast<int64_t>(calibration.windows.size());
  const bool narrow = model.executor().products() == Products::bf16;
  int64_t inputs = 0, aims = 0;  // values of the largest batch
  for (const InputGroup& group : input_groups(c, blocks.front())) {
    const int64_t rows = batch_windows(length, group.in(), windows) * length;
    inputs = std::max(inputs, rows * group.in());
    aims = std::max(aims,
                    reference ? rows * (group.adds || !group.closes ? c.hidden : group.in()) : 0);
  }
  const int64_t batch = batch_windows(length, widest, windows);
  const int64_t side_by_side =
      batch < kManyWindows ? 1 : std::min<int64_t>(model.executor().threads().count(), batch);
  int64_t block_weights = 0;
  for (const LinearSpec& linear : block_linears(blocks.front()))
    block_weights += linear.out * linear.in;
  const bool packed = narrow && c.hidden * widest <= kMostPacked;
  const int64_t followed = reference ? 2 : 1;
  return (inputs + aims) * 4 + (narrow ? inputs * 4 + aims * 2 : 0)  // a batch, and its panels
         + 2 * widest * widest * 4                                   // moments and their factor
         + (reference ? c.hidden * widest * 4 : 0)                   // moments with the aims
         + block_weights * (narrow ? 2 : 4)  // replaced weights of the block
         + (packed ? block_weights * 4 : 0)  // those and the original ones, packed
         + side_by_side * length * (3 * c.hidden + followed * widest) * 4  // windows at work
         + model.executor().threads().count() *
               (int64_t{4} << 20);  // slabs of weights, tiles of rows
}

}  // namespace qwb
