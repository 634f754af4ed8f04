#include "lib/quantize/model_ends.h"

#include <algorithm>

#include "lib/base/error.h"
#include "lib/base/interrupt.h"
#include "lib/base/parallel.h"
#include "lib/kernels/matmul.h"

namespace qwb {
namespace {

constexpr int64_t kBatchFloats = int64_t{6} << 20;  // of final hidden states that are held at once

FloatBuffer zeros(int64_t count) {
  FloatBuffer buffer(count);
  std::fill_n(buffer.data(), count, 0.0f);
  return buffer;
}

}  // namespace

void embed_stream(const Model& model, const CalibrationSet& calibration, const Weight& embedding,
                  ResidualStream& stream) {
  parallel_for(stream.windows(), [&](int64_t w) {
    FloatBuffer x(stream.length() * model.config().hidden);
    model.embed(calibration.windows[static_cast<size_t>(w)], 0, embedding, x.data());
    stream.store(w, x.data());
  });
}

OutputMoments::OutputMoments(const Model& model, const ResidualStream& stream,
                             const ResidualStream* reference) {
  const int64_t hidden = model.config().hidden, length = stream.length(), size = length * hidden;
  const bool follow = reference != nullptr;
  const Products products = model.backend().products();
  const int64_t batch = std::clamp<int64_t>(kBatchFloats / size, 1, stream.windows());
  hessian_ = zeros(hidden * hidden);
  if (follow) drift_ = zeros(hidden * hidden);
  const FloatBuffer inputs(batch * size), drifts(follow ? batch * size : 0);
  for (int64_t first = 0; first < stream.windows(); first += batch) {
    check_interrupt();
    const int64_t count = std::min(batch, stream.windows() - first), rows = count * length;
    parallel_for(count, [&](int64_t i) {
      FloatBuffer x(size);
      const auto normalized = [&](const ResidualStream& from, float* out) {
        from.load(first + i, x.data());
        model.final_norm(x.data(), length, out);
        if (!model.backend().all_finite(out, size))
          throw Error(ErrorKind::failed, "NaN or Inf in the output of the last block");
      };
      float* input = inputs.data() + i * size;
      normalized(stream, input);
      if (!follow) return;
      float* drift = drifts.data() + i * size;
      normalized(*reference, drift);
      for (int64_t k = 0; k < size; ++k) drift[k] -= input[k];
    });
    const Operand x(inputs.data(), rows, hidden, products);
    add_moments(x, rows, hessian_.data());
    if (follow) add_products(Operand(drifts.data(), rows, hidden, products), x, rows, drift_.data());
  }
  moments_.tokens = stream.windows() * length;
  moments_.hessian = hessian_.data();
  if (follow) moments_.drift = drift_.data();
}

}  // namespace qwb
