#include "lib/quantize/block_survey.h"

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"
#include "lib/base/interrupt.h"
#include "lib/base/parallel.h"
#include "lib/kernels/matmul.h"

namespace qwb {
namespace {

// Enough to choose one of forty scalings: the demo models' perplexities with all 65,536 tokens are within
// 0.03 of those with these, either way.
constexpr int64_t kTokens = 16384;

int64_t surveyed(int64_t length, int64_t windows) {
  return std::clamp<int64_t>(kTokens / length, 1, windows);
}

int64_t widest_input(const ModelConfig& c) {
  return std::max({c.hidden, c.intermediate, c.heads * c.head_dim});
}

class Surveyor {
 public:
  Surveyor(const Model& model, int64_t index, const ResidualStream& stream, const std::vector<Stage>& stages)
      : model_(model),
        stream_(stream),
        block_(model.config(), model.spec().blocks[static_cast<size_t>(index)], index, model.source(),
               model.backend()),
        rotary_(model.config().rope, 0, stream.length()),
        index_(index),
        operand_(model.backend().products()),
        windows_(surveyed(stream.length(), stream.windows())),
        batch_(batch_windows(stream.length(), widest_input(model.config()), windows_)) {
    for (const Stage stage : stages) {
      const int64_t size = block_.input_size(stage);
      SurveyedStage& found = survey_[stage];
      found.hessian = FloatBuffer(size * size);
      std::fill_n(found.hessian.data(), size * size, 0.0f);
      found.moments.hessian = found.hessian.data();
      found.moments.tokens = windows_ * stream.length();
      magnitudes_[stage].assign(static_cast<size_t>(size), 0.0);
    }
    for (const Stage stage : kStages)
      inputs_[stage] = FloatBuffer(batch_ * stream.length() * block_.input_size(stage));
  }

  Survey run() {
    for (int64_t first = 0; first < windows_; first += batch_) {
      check_interrupt();
      const int64_t count = std::min(batch_, windows_ - first);
      for_windows(first, count, [&](int64_t i) { forward(i * stream_.windows() / windows_, i - first); });
      for (auto& [stage, found] : survey_) add(stage, count * stream_.length(), found);
    }
    for (auto& [stage, found] : survey_) {
      mirror_moments(found.hessian.data(), block_.input_size(stage));
      for (const double sum : magnitudes_.at(stage)) {
        found.moments.input_magnitude.push_back(
            static_cast<float>(sum / static_cast<double>(found.moments.tokens)));
      }
    }
    return std::move(survey_);
  }

 private:
  // Inputs of one window; after the last stage that is asked for there is nothing left to do.
  void forward(int64_t window, int64_t place) {
    const ModelConfig& c = model_.config();
    const int64_t length = stream_.length(), kv = length * c.kv_heads * c.head_dim;
    const auto input = [&](Stage stage) {
      return inputs_.at(stage).data() + place * length * block_.input_size(stage);
    };
    const Stage last = survey_.rbegin()->first;
    FloatBuffer x(length * c.hidden), keys(kv), values(kv);
    stream_.load(window, x.data());
    block_.attention_input(x.data(), length, input(Stage::attention_input));
    if (last != Stage::attention_input) {
      block_.attend(input(Stage::attention_input), length, rotary_, {keys.data(), values.data(), 0},
                    input(Stage::attention_output));
    }
    if (last == Stage::mlp_input || last == Stage::mlp_output) {
      block_.attention_output(input(Stage::attention_output), length, x.data());
      block_.mlp_input(x.data(), length, input(Stage::mlp_input));
    }
    if (last == Stage::mlp_output)
      block_.mlp_inner(input(Stage::mlp_input), length, input(Stage::mlp_output));
    for (const auto& [stage, found] : survey_) {
      if (!model_.backend().all_finite(input(stage), length * block_.input_size(stage)))
        throw Error(ErrorKind::failed, "NaN or Inf in the activations of block " + std::to_string(index_));
    }
  }

  void add(Stage stage, int64_t rows, SurveyedStage& found) {
    const FloatBuffer& x = inputs_.at(stage);
    std::vector<double>& sums = magnitudes_.at(stage);
    const auto columns = static_cast<int64_t>(sums.size());
    operand_.set(x.data(), rows, columns);
    add_moments(operand_, rows, found.hessian.data());
    parallel_ranges(columns, 64, [&](int64_t begin, int64_t end) {
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = begin; c < end; ++c) sums[static_cast<size_t>(c)] += std::abs(x[r * columns + c]);
      }
    });
  }

  const Model& model_;
  const ResidualStream& stream_;
  Block block_;
  RotaryTable rotary_;
  int64_t index_;
  Operand operand_;
  int64_t windows_;  // evenly spaced over the stream's
  int64_t batch_;
  Survey survey_;
  std::map<Stage, FloatBuffer> inputs_;  // of one batch of windows
  std::map<Stage, std::vector<double>> magnitudes_;
};

}  // namespace

Survey survey_block(const Model& model, int64_t index, const ResidualStream& stream,
                    const std::vector<Stage>& stages) {
  if (stages.empty()) return {};
  return Surveyor(model, index, stream, stages).run();
}

int64_t surveyed_windows(const CalibrationSet& calibration) {
  return surveyed(calibration.length, static_cast<int64_t>(calibration.windows.size()));
}

int64_t survey_memory(const Model& model, const CalibrationSet& calibration) {
  const ModelConfig& c = model.config();
  const int64_t length = calibration.length, attended = c.heads * c.head_dim;
  const int64_t windows = surveyed_windows(calibration);
  const int64_t batch = batch_windows(length, widest_input(c), windows);
  const int64_t inputs = 2 * c.hidden + attended + c.intermediate;
  const int64_t squares = 2 * c.hidden * c.hidden + attended * attended + c.intermediate * c.intermediate;
  // The last square: the moments of the inputs as one candidate would scale them.
  return 4 * (squares + widest_input(c) * widest_input(c) +
              batch * length * (inputs + widest_input(c) / 2)  // a batch and its bf16 copy
              + std::min<int64_t>(threads(), batch) * length * (2 * c.hidden + 2 * widest_input(c)));
}

}  // namespace qwb
