#include "lib/quantize/calibrate/residual_stream.h"

#include "lib/base/error.h"
#include "lib/base/parallel.h"

namespace qwb {

void for_windows(const Context& context, int64_t first, int64_t count,
                 const std::function<void(int64_t)>& body) {
  if (count < kManyWindows) {
    for (int64_t w = first; w < first + count; ++w) {
      context.stop.check();
      body(w);
    }
  } else {
    parallel_for(context, count, [&](int64_t i) { body(first + i); });
  }
}

ResidualStream::ResidualStream(const Model& model, const CalibrationSet& calibration,
                               const Path& scratch, const Context& context)
    : windows_(static_cast<int64_t>(calibration.windows.size())),
      length_(calibration.length),
      rows_(model.executor(), calibration.tokens(), model.config().hidden, scratch) {
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
  model.check_length(length_);
  parallel_for(context, windows_, [&](int64_t w) {
    const Matrix x = model.executor().allocate(length_, rows_.columns());
    model.embed(calibration.windows[w], 0, x);
    store(w, x);
  });
}

void ResidualStream::begin(const Model& model, const CalibrationSet& calibration,
                           const Weight& embedding, const Context& context) {
  const Prepared table = model.executor().prepare(embedding);
  model.check_length(length_);
  parallel_for(context, windows_, [&](int64_t w) {
    const Matrix x = model.executor().allocate(length_, rows_.columns());
    model.embed(calibration.windows[w], 0, table, x);
    store(w, x);
  });
}

}  // namespace qwb
