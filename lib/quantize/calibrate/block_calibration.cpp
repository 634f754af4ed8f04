#include "lib/quantize/calibrate/block_calibration.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/memory.h"
#include "lib/base/parallel.h"
#include "lib/codec/dense.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/linear.h"
#include "lib/exec/cpu/tile_panels.h"

namespace qwb {
namespace {

std::vector<float> means(const std::vector<double>& sums, int64_t tokens) {
  std::vector<float> result(sums.size());
  for (size_t i = 0; i < sums.size(); ++i)
    result[i] = static_cast<float>(sums[i] / static_cast<double>(tokens));
  return result;
}

// [rows, columns] in memory that is made anew only when it is too small.
Out grown(const Executor& executor, Matrix& memory, int64_t rows, int64_t columns) {
  if (memory.rows() * memory.columns() < rows * columns) {
    memory = {};
    memory = executor.allocate(rows, columns);
  }
  return memory.view().as(rows, columns);
}

Matrix zeros(const Executor& executor, int64_t rows, int64_t columns) {
  Matrix matrix = executor.allocate(rows, columns, MemoryKind::scratch);
  executor.fill(matrix, 0);
  return matrix;
}

}  // namespace

int64_t batch_windows(const Executor& executor, int64_t length, int64_t size, int64_t windows) {
  const CalibrationBatch batch = executor.calibration().batch();
  const int64_t tokens = std::min(batch.tokens, batch.floats / size);
  return std::clamp<int64_t>(tokens / length, 1, windows);
}

CalibrationMemory::CalibrationMemory(const Model& model, const CalibrationSet& calibration,
                                     const Path& scratch)
    : kept(model.executor(), calibration.tokens(),
           widest_closing_input(model.config(), model.spec().blocks), scratch),
      sums(model.executor().calibration().moment_sums()) {}

BlockCalibration::BlockCalibration(const Model& model, int64_t index, ResidualStream& stream,
                                   ResidualStream* reference, CalibrationMemory& memory,
                                   const Context& context)
    : model_(model),
      executor_(model.executor()),
      ops_(executor_.calibration()),
      stream_(stream),
      reference_(reference),
      memory_(memory),
      context_(context),
      block_(model.config(), model.spec().blocks[index], index, model.source(), executor_),
      rotary_(executor_, model.config().rope, 0, stream.length()),
      index_(index) {
  block_.prepare_often();
  if (reference_ != nullptr) original_.emplace(block_);
}

void BlockCalibration::prepare(const Gather& gather) {
  const int64_t size = gather.size;
  moments_ = {};
  moments_.executor = &executor_;
  hessian_ = {};
  cross_ = {};
  if (gather.request.moments) {
    hessian_ = zeros(executor_, size, size);
    moments_.hessian = hessian_;
  }
  if (gather.request.drift) {
    cross_ = zeros(executor_, gather.aim_size, size);
    (gather.group.adds ? moments_.wanted : moments_.drift) = cross_;
  }
  input_offset_.clear();
  aim_offset_.clear();
  input_sums_.assign(static_cast<size_t>(size), 0.0);
  aim_sums_.assign(static_cast<size_t>(gather.aim_size), 0.0);
  if (gather.group.closes) memory_.kept.reshape(size);
}

// Takes the mean of the first batch out: what the sums then hold of the means is small, and taking
// it out loses no digits, not even of bf16.
void BlockCalibration::shift(Out values, std::vector<float>& offset) const {
  if (offset.empty()) {
    std::vector<double> sums(static_cast<size_t>(values.columns));
    ops_.add_columns(values, Summands::values, sums);
    offset = means(sums, values.rows);
  }
  ops_.subtract_row(values, executor_.upload(offset, MemoryKind::scratch));
}

void BlockCalibration::collect(const Gather& gather) {
  const int64_t length = stream_.length();
  prepare(gather);
  if (leaves_ || block_.has_closing(gather.group.sublayer)) applied_ = std::exchange(replaced_, {});
  const bool aims_wanted = gather.request.drift;
  const int64_t batch = batch_windows(executor_, length, gather.size, stream_.windows());
  const Out inputs = grown(executor_, memory_.inputs, batch * length, gather.size);
  const Out aims =
      aims_wanted ? grown(executor_, memory_.aims, batch * length, gather.aim_size) : Out();
  std::vector<int64_t> rows(static_cast<size_t>(batch));
  for (int64_t first = 0; first < stream_.windows(); first += batch) {
    context_.stop.check();
    const int64_t count = std::min(batch, stream_.windows() - first);
    for_windows(context_, first, count, [&](int64_t w) {
      const int64_t place = (w - first) * length;
      const Places out{inputs.row_range(place, length),
                       aims_wanted ? aims.row_range(place, length) : Out()};
      rows[w - first] = observe_window(gather, w, out);
    });
    rows.resize(static_cast<size_t>(count));
    if (gather.group.expert >= 0) compact(rows, {inputs, aims});
    add_batch(gather, std::accumulate(rows.begin(), rows.end(), int64_t{0}));
  }
  if (gather.request.moments) ops_.mirror(hessian_);
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
  const Out x = memory_.inputs.view().as(rows, gather.size),
            aims = request.drift ? memory_.aims.view().as(rows, gather.aim_size) : Out();
  if (request.centred) {
    shift(x, input_offset_);
    shift(aims, aim_offset_);
    ops_.add_columns(x, Summands::values, input_sums_);
    ops_.add_columns(aims, Summands::values, aim_sums_);
  }
  memory_.sums->add(x, hessian_, aims, cross_);
}

// The rows of all windows of a batch, which begin `length` rows apart, one behind the other.
void BlockCalibration::compact(const std::vector<int64_t>& rows, const Places& batch) const {
  std::vector<int64_t> used;
  for (size_t w = 0; w < rows.size(); ++w) {
    for (int64_t r = 0; r < rows[w]; ++r)
      used.push_back(static_cast<int64_t>(w) * stream_.length() + r);
  }
  ops_.compact(used, batch.input);
  if (!batch.aim.empty()) ops_.compact(used, batch.aim);
}

void BlockCalibration::take_out_means(bool adds) {
  const int64_t tokens = moments_.tokens;
  const auto whole = [&](const std::vector<double>& sums, const std::vector<float>& offset) {
    std::vector<float> mean = means(sums, tokens);
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += offset[i];
    return mean;
  };
  moments_.input_mean = whole(input_sums_, input_offset_);
  (adds ? moments_.wanted_mean : moments_.drift_mean) = whole(aim_sums_, aim_offset_);
  moments_.centred = true;
  ops_.take_out_means(hessian_, input_sums_, input_sums_, tokens);
  ops_.clear_negative_diagonal(hessian_);
  ops_.take_out_means(cross_, aim_sums_, input_sums_, tokens);
}

BlockCalibration::Cache BlockCalibration::cache(bool used) const {
  const int64_t length = used ? stream_.length() : 0;
  const int64_t size = model_.config().kv_heads * model_.config().head_dim;
  return {executor_.allocate(length, size), executor_.allocate(length, size)};
}

void BlockCalibration::input(const Block& block, const InputGroup& group, In x,
                             const std::vector<int64_t>& only, Out out) const {
  const Cache cache = this->cache(group.part == InputGroup::Part::attended);
  block.input(group, x, {stream_.length(), rotary_, {cache.keys, cache.values, 0}}, only, out);
}

void BlockCalibration::advance(const Block& block, size_t sublayer, Out x) const {
  const Cache cache = this->cache(block.attends(sublayer));
  block.advance(sublayer, {stream_.length(), rotary_, {cache.keys, cache.values, 0}}, x);
}

// x: the window's stream where the sublayer under observation begins.
void BlockCalibration::enter(int64_t window, Out x) {
  const int64_t length = stream_.length();
  stream_.load(window, x);
  if (!leaves_) return;
  if (block_.has_closing(*leaves_)) {
    const Matrix input = executor_.allocate(length, memory_.kept.columns());
    memory_.kept.load(window * length, input);
    block_.leave(*leaves_, input, x);
    stream_.store(window, x);
    return;
  }
  advance(block_, *leaves_, x);
  stream_.store(window, x);
  if (reference_ == nullptr) return;
  const Matrix original = this->window();
  reference_->load(window, original);
  advance(*original_, *leaves_, original);
  reference_->store(window, original);
}

void BlockCalibration::check_finite(In values) const {
  if (!executor_.all_finite(values)) {
    throw Error(ErrorKind::failed,
                "NaN or Inf in the activations of block " + std::to_string(index_));
  }
}

// Computes the inputs and aims of one window; returns how many rows there are.
int64_t BlockCalibration::observe_window(const Gather& gather, int64_t window, const Places& out) {
  const InputGroup& group = gather.group;
  const Matrix x = this->window();
  enter(window, x);
  std::vector<int64_t> only;
  if (group.expert >= 0) only = block_.rows(group, x);
  const int64_t rows = group.expert >= 0 ? std::ssize(only) : stream_.length();
  const Out own = out.input.row_range(0, rows),
            aim = out.aim.empty() ? Out() : out.aim.row_range(0, rows);
  input(block_, group, x, only, own);
  if (group.closes) memory_.kept.store(window * stream_.length(), own);
  if (reference_ != nullptr && group.closes) {
    close_original(gather, x, window, aim);
    if (!aim.empty() && !group.adds) ops_.subtract(aim, own);
  } else if (!aim.empty()) {
    reference_->load(window, x);
    input(*original_, group, x, only, aim);
    ops_.subtract(aim, own);
  }
  check_finite(own);
  if (!aim.empty()) check_finite(aim);
  return rows;
}

// The original's stream leaves the sublayer. aim, unless empty: what the module is to add to x, or
// the original's input where what it makes is not added as it is.
void BlockCalibration::close_original(const Gather& gather, In x, int64_t window, Out aim) {
  const InputGroup& group = gather.group;
  const bool stream_wanted = !aim.empty() && group.adds, input_wanted = !aim.empty() && !group.adds;
  const Matrix own_input = executor_.allocate(input_wanted ? 0 : stream_.length(), gather.size),
               own_stream = executor_.allocate(stream_wanted ? 0 : stream_.length(), x.columns);
  const Out r = stream_wanted ? aim : own_stream.view(),
            input_of_original = input_wanted ? aim : own_input.view();
  reference_->load(window, r);
  input(*original_, group, r, {}, input_of_original);
  original_->leave(group.sublayer, input_of_original, r);
  reference_->store(window, r);
  if (!stream_wanted) return;
  ops_.subtract(aim, x);
  const std::vector<float> bias = block_.bias(group.readers.front().module);
  if (!bias.empty()) ops_.subtract_row(aim, executor_.upload(bias, MemoryKind::scratch));
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
  if (std::optional<Prepared> own = executor_.prepare_rounded(weight)) {
    block_.set_weight(module, *std::move(own));
    replaced_[module] = {};
    return;
  }
  const int64_t count = weight.out * weight.in;
  const bool narrow = executor_.products() == Products::bf16;
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
  const int64_t batch = batch_windows(executor_, length, memory_.kept.columns(), stream_.windows());
  const auto body = [&](int64_t w) {
    const Matrix x = window();
    enter(w, x);
  };
  for (int64_t first = 0; first < stream_.windows(); first += batch)
    for_windows(context_, first, std::min(batch, stream_.windows() - first), body);
  leaves_.reset();
}

OutputCalibration::OutputCalibration(const Model& model, const ResidualStream& stream,
                                     const ResidualStream* reference, const MomentsRequest& request,
                                     const Context& context)
    : hessian_(zeros(model.executor(), model.config().hidden, model.config().hidden)) {
  const Executor& executor = model.executor();
  const int64_t hidden = model.config().hidden, length = stream.length();
  const bool drift = request.drift && reference != nullptr;
  moments_.executor = &executor;
  moments_.tokens = stream.windows() * length;
  moments_.hessian = hessian_;
  if (drift) {
    drift_ = zeros(executor, hidden, hidden);
    moments_.drift = drift_;
  }
  const int64_t batch = batch_windows(executor, length, hidden, stream.windows());
  const Matrix inputs = executor.allocate(batch * length, hidden),
               drifts = executor.allocate(drift ? inputs.rows() : 0, hidden);
  const std::unique_ptr<MomentSums> sums = executor.calibration().moment_sums();
  const auto final_input = [&](const ResidualStream& from, int64_t w, Out input) {
    const Matrix x = executor.allocate(length, hidden);
    from.load(w, x);
    model.final_norm(x, input);
    if (!executor.all_finite(input))
      throw Error(ErrorKind::failed, "NaN or Inf in the output of the last block");
  };
  for (int64_t first = 0; first < stream.windows(); first += batch) {
    context.stop.check();
    const int64_t count = std::min(batch, stream.windows() - first), rows = count * length;
    parallel_for(context, count, [&](int64_t i) {
      const Out input = inputs.view().row_range(i * length, length);
      final_input(stream, first + i, input);
      if (!drift) return;
      const Out difference = drifts.view().row_range(i * length, length);
      final_input(*reference, first + i, difference);
      executor.calibration().subtract(difference, input);
    });
    sums->add(inputs.view().row_range(0, rows), hessian_,
              drift ? drifts.view().row_range(0, rows) : Out(), drift_);
  }
  executor.calibration().mirror(hessian_);
}

int64_t trial_windows(const Model& model, const CalibrationSet& calibration) {
  return batch_windows(model.executor(), calibration.length,
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
    const int64_t rows = batch_windows(model.executor(), length, group.in(), windows) * length;
    inputs = std::max(inputs, rows * group.in());
    aims = std::max(aims, reference ? rows * (group.adds ? c.hidden : group.in()) : 0);
  }
  const int64_t batch = batch_windows(model.executor(), length, widest, windows);
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
