#include "lib/quantize/block_calibration.h"

#include <algorithm>

#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/kernels/dequantize.h"
#include "lib/kernels/matmul.h"

namespace qwb {
namespace {

// Tokens whose inputs are held at once before they are added to the moments: enough windows for the threads
// to share, and long inner products for the matrix library.
constexpr int64_t kBatchTokens = 8192;

int64_t batch_windows(int64_t length) {
  return std::max<int64_t>(1, kBatchTokens / length);
}

}  // namespace

ResidualStream::ResidualStream(const Model& model, const CalibrationSet& calibration)
    : windows_(static_cast<int64_t>(calibration.windows.size())),
      length_(calibration.length),
      hidden_(model.config().hidden),
      values_(checked_mul(calibration.tokens(), model.config().hidden, "calibration activations")) {
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
  parallel_for(windows_,
               [&](int64_t w) { model.embed(calibration.windows[static_cast<size_t>(w)], 0, window(w)); });
}

BlockCalibration::BlockCalibration(const Model& model, int64_t index, ResidualStream& stream)
    : model_(model),
      stream_(stream),
      block_(model.config(), model.spec().blocks[static_cast<size_t>(index)], index, model.source(),
             model.backend()),
      rotary_(model.config().rope, 0, stream.length()),
      index_(index) {}

void BlockCalibration::collect(int64_t size, bool keep, const WindowWork& work) {
  const int64_t length = stream_.length();
  const int64_t batch = std::min(batch_windows(length), stream_.windows());
  hessian_ = FloatBuffer(size * size);
  std::fill_n(hessian_.data(), hessian_.size(), 0.0f);
  kept_.reset();
  if (keep) kept_.emplace(stream_.windows() * length, size);
  const FloatBuffer inputs(batch * length * size);
  for (int64_t first = 0; first < stream_.windows(); first += batch) {
    const int64_t count = std::min(batch, stream_.windows() - first);
    parallel_for(count, [&](int64_t i) {
      float* input = inputs.data() + i * length * size;
      work(first + i, input);
      if (!model_.backend().all_finite(input, length * size)) {
        throw Error(ErrorKind::failed, "NaN or Inf in the activations of block " + std::to_string(index_));
      }
      if (keep) kept_->store((first + i) * length, length, input);
    });
    add_moments(inputs.data(), count * length, size, hessian_.data());
  }
}

Moments BlockCalibration::observe(Stage stage) {
  const ModelConfig& c = model_.config();
  const int64_t length = stream_.length();
  const int64_t size = block_.input_size(stage);
  const std::optional<HalfRows> before = std::move(kept_);  // inputs of the stage before this one
  switch (stage) {
    case Stage::attention_input:
      collect(size, false,
              [&](int64_t w, float* input) { block_.attention_input(stream_.window(w), length, input); });
      break;
    case Stage::attention_output:
      collect(size, true, [&](int64_t w, float* input) {
        FloatBuffer h(length * c.hidden), keys(length * c.kv_heads * c.head_dim),
            values(length * c.kv_heads * c.head_dim);
        block_.attention_input(stream_.window(w), length, h.data());
        block_.attend(h.data(), length, rotary_, {keys.data(), values.data(), 0}, input);
      });
      break;
    case Stage::mlp_input:
      collect(size, false, [&](int64_t w, float* input) {
        FloatBuffer attended(length * c.heads * c.head_dim);
        before->load(w * length, length, attended.data());
        block_.attention_output(attended.data(), length, stream_.window(w));
        block_.mlp_input(stream_.window(w), length, input);
      });
      break;
    case Stage::mlp_output:
      collect(size, true, [&](int64_t w, float* input) {
        FloatBuffer h(length * c.hidden);
        block_.mlp_input(stream_.window(w), length, h.data());
        block_.mlp_inner(h.data(), length, input);
      });
  }
  return {hessian_.data(), stream_.windows() * length};
}

void BlockCalibration::replace(const std::string& module, const Weight& weight) {
  FloatBuffer values(weight.out * weight.in);
  dequantize(weight, values.data());
  const Bytes bytes(reinterpret_cast<const std::byte*>(values.data()),
                    static_cast<size_t>(values.size()) * sizeof(float));
  const Shape shape =
      weight.orientation == Orientation::out_in ? Shape{weight.out, weight.in} : Shape{weight.in, weight.out};
  block_.set_weight(
      module, Weight{weight.out, weight.in, weight.orientation, DenseWeight{{DType::f32, shape, bytes}}});
  replaced_.push_back(std::move(values));
}

void BlockCalibration::finish() {
  const int64_t length = stream_.length();
  const int64_t size = block_.input_size(Stage::mlp_output);
  parallel_for(stream_.windows(), [&](int64_t w) {
    FloatBuffer inner(length * size);
    kept_->load(w * length, length, inner.data());
    block_.mlp_output(inner.data(), length, stream_.window(w));
  });
}

int64_t calibration_memory(const Model& model, const CalibrationSet& calibration) {
  const ModelConfig& c = model.config();
  const int64_t tokens = calibration.tokens();
  const int64_t widest = std::max({c.hidden, c.intermediate, c.heads * c.head_dim});
  const int64_t batch =
      std::min(batch_windows(calibration.length), static_cast<int64_t>(calibration.windows.size())) *
      calibration.length;
  const int64_t block_weights =
      c.hidden * (2 * c.heads + 2 * c.kv_heads) * c.head_dim + 3 * c.hidden * c.intermediate;
  return tokens * c.hidden * 4  // the residual stream
         + tokens * widest * 2  // kept inputs
         + batch * widest * 4   // a batch of inputs
         + widest * widest * 8  // moments and their factor
         + block_weights * 4    // replaced weights of the block
         + threads() * (calibration.length * (c.hidden + widest) * 4 +
                        (16 << 20));  // one window a thread, one slab of weights
}

}  // namespace qwb
