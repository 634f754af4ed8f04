#include "lib/quantize/block_calibration.h"

#include <malloc.h>

#include <algorithm>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/interrupt.h"
#include "lib/base/parallel.h"
#include "lib/kernels/dequantize.h"
#include "lib/kernels/matmul.h"

namespace qwb {
namespace {

// Floats of inputs that are held at once before they are added to the moments: long inner products for the
// matrix library, and enough windows for the threads to share.
constexpr int64_t kBatchFloats = int64_t{14} << 18;
constexpr int64_t kBatchTokens = 3072;
// Fewer windows than this go through a block one after the other.
constexpr int64_t kManyWindows = 4;

std::vector<float> means(const std::vector<double>& sums, int64_t tokens) {
  std::vector<float> result(sums.size());
  for (size_t i = 0; i < sums.size(); ++i)
    result[i] = static_cast<float>(sums[i] / static_cast<double>(tokens));
  return result;
}

// m [rows, columns] -= tokens * left right^T
void subtract_means(const FloatBuffer& m, int64_t columns, int64_t tokens, const std::vector<double>& left,
                    const std::vector<double>& right) {
  parallel_for(static_cast<int64_t>(left.size()), [&](int64_t i) {
    const double factor = left[static_cast<size_t>(i)] / static_cast<double>(tokens);
    float* row = m.data() + i * columns;
    for (int64_t j = 0; j < columns; ++j)
      row[j] = static_cast<float>(row[j] - factor * right[static_cast<size_t>(j)]);
  });
}

// The most columns that a stage keeps of its inputs.
int64_t kept_columns(const ModelConfig& config) {
  return std::max(config.intermediate, config.heads * config.head_dim);
}

const FloatBuffer& grown(FloatBuffer& buffer, int64_t count) {
  if (buffer.size() < count) {
    buffer = {};
    buffer = FloatBuffer(count);
  }
  return buffer;
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

void for_windows(int64_t first, int64_t count, const std::function<void(int64_t)>& body) {
  if (count < kManyWindows) {
    for (int64_t w = first; w < first + count; ++w) body(w);
  } else {
    parallel_for(count, [&](int64_t i) { body(first + i); });
  }
}

ResidualStream::ResidualStream(const Model& model, const CalibrationSet& calibration, const Path& scratch)
    : windows_(static_cast<int64_t>(calibration.windows.size())),
      length_(calibration.length),
      rows_(calibration.tokens(), model.config().hidden, scratch) {
  for (const auto& window : calibration.windows) {
    for (const int32_t token : window) {
      if (token < 0 || token >= model.config().vocab) {
        throw Error(ErrorKind::failed,
                    "calibration token " + std::to_string(token) + " is outside the vocabulary", {},
                    "the tokenizer does not belong to this model");
      }
    }
  }
  if (!model.spec().positions.empty() && length_ > model.config().max_positions) {
    throw Error(ErrorKind::usage, "calibration windows of " + std::to_string(length_) +
                                      " tokens, but the model knows only " +
                                      std::to_string(model.config().max_positions) + " positions");
  }
  parallel_for(windows_, [&](int64_t w) {
    FloatBuffer x(length_ * model.config().hidden);
    model.embed(calibration.windows[static_cast<size_t>(w)], 0, x.data());
    store(w, x.data());
  });
}

void ResidualStream::begin(const Model& model, const CalibrationSet& calibration, const Weight& embedding) {
  parallel_for(windows_, [&](int64_t w) {
    FloatBuffer x(length_ * rows_.columns());
    model.embed(calibration.windows[static_cast<size_t>(w)], 0, embedding, x.data());
    store(w, x.data());
  });
}

CalibrationMemory::CalibrationMemory(const Model& model, const CalibrationSet& calibration,
                                     const Path& scratch)
    : kept(calibration.tokens(), kept_columns(model.config()), scratch),
      x(model.backend().products()),
      aim(model.backend().products(), Operand::Side::left) {}

BlockCalibration::BlockCalibration(const Model& model, int64_t index, ResidualStream& stream,
                                   ResidualStream* reference, CalibrationMemory& memory)
    : model_(model),
      stream_(stream),
      reference_(reference),
      memory_(memory),
      block_(model.config(), model.spec().blocks[static_cast<size_t>(index)], index, model.source(),
             model.backend()),
      rotary_(model.config().rope, 0, stream.length()),
      index_(index) {
  packed_ = block_.pack_weights();
  if (reference_ != nullptr) original_.emplace(block_);
}

void BlockCalibration::prepare(const Gather& gather) {
  const int64_t size = gather.size, aim_size = gather.adds ? model_.config().hidden : size;
  moments_ = {};
  moments_.tokens = stream_.windows() * stream_.length();
  hessian_ = FloatBuffer();
  cross_ = FloatBuffer();
  if (gather.wants.moments) {
    hessian_ = zeros(size * size);
    moments_.hessian = hessian_.data();
  }
  if (gather.wants.drift) {
    cross_ = zeros(aim_size * size);
    (gather.adds ? moments_.wanted : moments_.drift) = cross_.data();
  }
  input_offset_.clear();
  aim_offset_.clear();
  input_sums_.assign(static_cast<size_t>(size), 0.0);
  aim_sums_.assign(static_cast<size_t>(aim_size), 0.0);
  if (gather.adds) memory_.kept.reshape(size);
}

void BlockCalibration::add_means(const FloatBuffer& values, int64_t rows, std::vector<double>& sums) {
  const auto columns = static_cast<int64_t>(sums.size());
  parallel_ranges(columns, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = begin; c < end; ++c) sums[static_cast<size_t>(c)] += values[r * columns + c];
    }
  });
}

// Takes the mean of the first batch out: what the sums then hold of the means is small, and taking it out
// loses no digits, not even of bf16.
void BlockCalibration::shift(const FloatBuffer& values, int64_t rows, int64_t columns,
                             std::vector<float>& offset) {
  if (offset.empty()) {
    std::vector<double> sums(static_cast<size_t>(columns));
    add_means(values, rows, sums);
    offset = means(sums, rows);
  }
  parallel_for(rows, [&](int64_t r) {
    float* row = values.data() + r * columns;
    for (int64_t c = 0; c < columns; ++c) row[c] -= offset[static_cast<size_t>(c)];
  });
}

void BlockCalibration::collect(const Gather& gather, const WindowWork& work) {
  const int64_t length = stream_.length(), size = gather.size,
                aim_size = gather.adds ? model_.config().hidden : size;
  prepare(gather);
  applied_ = std::exchange(replaced_, {});
  const StageWants& wants = gather.wants;
  const Backend& backend = model_.backend();
  const int64_t batch = batch_windows(length, size, stream_.windows());
  const FloatBuffer& inputs = grown(memory_.inputs, batch * length * size);
  const FloatBuffer& aims = grown(memory_.aims, wants.drift ? batch * length * aim_size : 0);
  for (int64_t first = 0; first < stream_.windows(); first += batch) {
    check_interrupt();
    const int64_t count = std::min(batch, stream_.windows() - first), rows = count * length;
    for_windows(first, count, [&](int64_t w) {
      const int64_t row = (w - first) * length;
      const Places out{inputs.data() + row * size, wants.drift ? aims.data() + row * aim_size : nullptr};
      work(w, out);
      if (!backend.all_finite(out.input, length * size) ||
          (wants.drift && !backend.all_finite(out.aim, length * aim_size))) {
        throw Error(ErrorKind::failed, "NaN or Inf in the activations of block " + std::to_string(index_));
      }
      if (gather.adds) memory_.kept.store(w * length, length, out.input);
    });
    if (!wants.moments) continue;
    if (wants.centred) {
      shift(inputs, rows, size, input_offset_);
      shift(aims, rows, aim_size, aim_offset_);
      add_means(inputs, rows, input_sums_);
      add_means(aims, rows, aim_sums_);
    }
    memory_.x.set(inputs.data(), rows, size);
    add_moments(memory_.x, rows, hessian_.data());
    if (!wants.drift) continue;
    memory_.aim.set(aims.data(), rows, aim_size);
    add_products(memory_.aim, memory_.x, rows, cross_.data());
  }
  if (wants.moments) mirror_moments(hessian_.data(), size);
  if (wants.centred) take_out_means(gather.adds);
  applied_.clear();
  // What was freed on the way lies between what stays and would be held besides what the methods take now: 16
  // MB of the 500 that SmolLM2 takes with 65,536 tokens. Once a stage it costs nothing to fault them in
  // again.
  ::malloc_trim(0);
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
  subtract_means(hessian_, size, tokens, input_sums_, input_sums_);
  for (int64_t i = 0; i < size; ++i) hessian_[i * size + i] = std::max(hessian_[i * size + i], 0.0f);
  subtract_means(cross_, size, tokens, aim_sums_, input_sums_);
}

void BlockCalibration::attend(const Block& block, const float* x, float* attended) const {
  const ModelConfig& c = model_.config();
  const int64_t length = stream_.length();
  FloatBuffer h(length * c.hidden), keys(length * c.kv_heads * c.head_dim),
      values(length * c.kv_heads * c.head_dim);
  block.attention_input(x, length, h.data());
  block.attend(h.data(), length, rotary_, {keys.data(), values.data(), 0}, attended);
}

void BlockCalibration::inner(const Block& block, const float* x, float* inner) const {
  FloatBuffer h(stream_.length() * model_.config().hidden);
  block.mlp_input(x, stream_.length(), h.data());
  block.mlp_inner(h.data(), stream_.length(), inner);
}

// Every stage's work loads the streams, goes on from the stage before, and leaves them ready for the next.
const Moments& BlockCalibration::observe(Stage stage, const StageWants& wants) {
  const int64_t length = stream_.length(), hidden = model_.config().hidden, count = length * hidden;
  const int64_t size = block_.input_size(stage);
  const auto subtract = [](const float* from, int64_t values, float* difference) {
    for (int64_t k = 0; k < values; ++k) difference[k] -= from[k];
  };
  // One stage that adds to the stream: `make` computes its input, `apply` is the original module itself. The
  // original goes on with each, wanted or not.
  const auto adding_stage = [&](const auto& make, const auto& apply) {
    const std::vector<float>& bias = block_.bias(block_.linears(stage).front()->module);
    collect({size, true, wants}, [&](int64_t w, const Places& out) {
      FloatBuffer x(count);
      stream_.load(w, x.data());
      make(block_, x.data(), out.input);
      if (reference_ == nullptr) return;
      FloatBuffer input(length * size), unwanted(out.aim == nullptr ? count : 0);
      float* r = out.aim == nullptr ? unwanted.data() : out.aim;
      reference_->load(w, r);
      make(*original_, r, input.data());
      apply(input.data(), r);
      reference_->store(w, r);
      if (out.aim == nullptr) return;
      subtract(x.data(), count, r);
      for (int64_t t = 0; t < length && !bias.empty(); ++t) subtract(bias.data(), hidden, r + t * hidden);
    });
  };
  switch (stage) {
    case Stage::attention_input:
      collect({size, false, wants}, [&](int64_t w, const Places& out) {
        FloatBuffer x(count);
        stream_.load(w, x.data());
        block_.attention_input(x.data(), length, out.input);
        if (out.aim == nullptr) return;
        reference_->load(w, x.data());
        original_->attention_input(x.data(), length, out.aim);
        subtract(out.input, length * size, out.aim);
      });
      break;
    case Stage::attention_output:
      adding_stage([&](const Block& block, const float* x, float* input) { attend(block, x, input); },
                   [&](const float* input, float* x) { original_->attention_output(input, length, x); });
      break;
    case Stage::mlp_input:
      collect({size, false, wants}, [&](int64_t w, const Places& out) {
        FloatBuffer x(count), attended(length * memory_.kept.columns());
        stream_.load(w, x.data());
        memory_.kept.load(w * length, length, attended.data());
        block_.attention_output(attended.data(), length, x.data());
        stream_.store(w, x.data());
        block_.mlp_input(x.data(), length, out.input);
        if (out.aim == nullptr) return;
        reference_->load(w, x.data());
        original_->mlp_input(x.data(), length, out.aim);
        subtract(out.input, length * size, out.aim);
      });
      break;
    case Stage::mlp_output:
      adding_stage([&](const Block& block, const float* x, float* input) { inner(block, x, input); },
                   [&](const float* input, float* x) { original_->mlp_output(input, length, x); });
  }
  return moments_;
}

void BlockCalibration::replace(const std::string& module, const Weight& weight) {
  const int64_t count = weight.out * weight.in;
  const bool narrow = model_.backend().products() == Products::bf16;
  const DType type = narrow ? DType::bf16 : DType::f32;
  AlignedBuffer kept(count * dtype_size(type));
  if (narrow) {
    const FloatBuffer values(count);
    dequantize(weight, values.data());
    to_bf16(values.data(), count, reinterpret_cast<uint16_t*>(kept.data()));
  } else {
    dequantize(weight, reinterpret_cast<float*>(kept.data()));
  }
  const Shape shape =
      weight.orientation == Orientation::out_in ? Shape{weight.out, weight.in} : Shape{weight.in, weight.out};
  const Bytes bytes(kept.data(), static_cast<size_t>(kept.size()));
  Weight dense{weight.out, weight.in, weight.orientation, DenseWeight{{type, shape, bytes}}};
  replaced_.push_back(model_.backend().pack(dense));
  replaced_.push_back(std::move(kept));
  block_.set_weight(module, dense);
}

void BlockCalibration::set_bias(const std::string& module, const std::vector<float>& bias) {
  block_.set_bias(module, bias);
}

void BlockCalibration::set_norm(Stage stage, const std::vector<float>& gain, const std::vector<float>& bias) {
  block_.set_norm(stage, gain, bias);
}

void BlockCalibration::finish() {
  const int64_t length = stream_.length(), hidden = model_.config().hidden;
  const int64_t size = block_.input_size(Stage::mlp_output);
  const int64_t batch = batch_windows(length, size, stream_.windows());
  const auto body = [&](int64_t w) {
    FloatBuffer inner(length * size), x(length * hidden);
    stream_.load(w, x.data());
    memory_.kept.load(w * length, length, inner.data());
    block_.mlp_output(inner.data(), length, x.data());
    stream_.store(w, x.data());
  };
  for (int64_t first = 0; first < stream_.windows(); first += batch)
    for_windows(first, std::min(batch, stream_.windows() - first), body);
}

OutputCalibration::OutputCalibration(const Model& model, const ResidualStream& stream,
                                     const ResidualStream* reference, const StageWants& wants)
    : hessian_(zeros(model.config().hidden * model.config().hidden)) {
  const int64_t hidden = model.config().hidden, length = stream.length();
  const Products products = model.backend().products();
  const bool drift = wants.drift && reference != nullptr;
  moments_.tokens = stream.windows() * length;
  moments_.hessian = hessian_.data();
  if (drift) {
    drift_ = zeros(hidden * hidden);
    moments_.drift = drift_.data();
  }
  const int64_t batch = batch_windows(length, hidden, stream.windows());
  const FloatBuffer inputs(batch * length * hidden), drifts(drift ? inputs.size() : 0);
  Operand operand(products), other(products, Operand::Side::left);
  const auto final_input = [&](const ResidualStream& from, int64_t w, float* input) {
    FloatBuffer x(length * hidden);
    from.load(w, x.data());
    model.final_norm(x.data(), length, input);
    if (!model.backend().all_finite(input, length * hidden))
      throw Error(ErrorKind::failed, "NaN or Inf in the output of the last block");
  };
  for (int64_t first = 0; first < stream.windows(); first += batch) {
    check_interrupt();
    const int64_t count = std::min(batch, stream.windows() - first), rows = count * length;
    parallel_for(count, [&](int64_t i) {
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
  mirror_moments(hessian_.data(), hidden);
}

int64_t trial_windows(const Model& model, const CalibrationSet& calibration) {
  const ModelConfig& c = model.config();
  return batch_windows(calibration.length, std::max(c.intermediate, c.heads * c.head_dim),
                       static_cast<int64_t>(calibration.windows.size()));
}

ActivationBytes activation_bytes(const Model& model, const CalibrationSet& calibration, bool reference) {
  const int64_t tokens = calibration.tokens();
  return {(reference ? 2 : 1) * HalfRows::bytes(tokens, model.config().hidden),
          HalfRows::bytes(tokens, kept_columns(model.config()))};
}

int64_t calibration_memory(const Model& model, const CalibrationSet& calibration, bool reference) {
  const ModelConfig& c = model.config();
  const int64_t length = calibration.length, attended = c.heads * c.head_dim;
  const int64_t widest = std::max({c.hidden, c.intermediate, attended});
  const auto windows = static_cast<int64_t>(calibration.windows.size());
  const bool narrow = model.backend().products() == Products::bf16;
  int64_t inputs = 0, aims = 0;  // values of the largest batch
  for (const int64_t size : {c.hidden, attended, c.intermediate}) {
    const int64_t rows = batch_windows(length, size, windows) * length;
    inputs = std::max(inputs, rows * size);
    aims = std::max(aims, reference ? rows * c.hidden : 0);
  }
  const int64_t batch = batch_windows(length, widest, windows);
  const int64_t side_by_side = batch < kManyWindows ? 1 : std::min<int64_t>(threads(), batch);
  const int64_t block_weights =
      c.hidden * (2 * c.heads + 2 * c.kv_heads) * c.head_dim + 3 * c.hidden * c.intermediate;
  const bool packed = narrow && c.hidden * widest <= kMostPacked;
  const int64_t followed = reference ? 2 : 1;
  return (inputs + aims) * 4 + (narrow ? inputs * 4 + aims * 2 : 0)  // a batch, and its panels
         + 2 * widest * widest * 4                                   // moments and their factor
         + (reference ? c.hidden * widest * 4 : 0)                   // moments with the aims
         + block_weights * (narrow ? 2 : 4)                          // replaced weights of the block
         + (packed ? block_weights * 4 : 0)                          // those and the original ones, packed
         + side_by_side * length * (3 * c.hidden + followed * widest) * 4  // windows at work
         + threads() * (int64_t{4} << 20);                                 // slabs of weights, tiles of rows
}

}  // namespace qwb
