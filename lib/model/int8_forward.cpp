#include "lib/model/int8_forward.h"

#include <cstdio>

#include "lib/base/error.h"

namespace qwb {

std::unique_ptr<Executor> make_executor(const Int8Forward& forward, Threads threads) {
  return forward.threshold ? make_int8_executor(*forward.threshold, threads)
                           : make_executor(ExecutorKind::fast, threads);
}

std::unique_ptr<Executor> make_executor(const DeviceChoice& device, const Int8Forward& forward,
                                        Threads threads) {
  if (device.kind != DeviceChoice::Kind::gpu) return make_executor(forward, threads);
  if (forward.threshold)
    throw Error(ErrorKind::unsupported, "LLM.int8's forward pass does not run on a GPU yet", {},
                "--device cpu runs it; --int8 dequantize runs on both");
  return make_cuda_executor(device.index, threads);
}

void require_int8_modules(const Model& model, const Int8Forward& forward,
                          const std::string& where) {
  if (!forward.threshold || model.int8_modules() > 0) return;
  throw Error(
      ErrorKind::usage, "LLM.int8's forward pass needs modules stored as int8, and there are none",
      where,
      "take an artifact of --method int8, or the weights as they are with --int8 dequantize");
}

Json int8_forward_json(const Model& model, const Int8Forward& forward) {
  if (model.int8_modules() == 0) return nullptr;
  if (!forward.threshold) return {{"name", "dequantize"}};
  return {{"name", "LLM.int8"}, {"threshold", *forward.threshold}};
}

std::string int8_forward_text(const Json& json) {
  if (!json.is_object()) return {};
  std::string text = json.value("name", "?");
  if (json.contains("threshold") && json.at("threshold").is_number()) {
    char number[32];
    std::snprintf(number, sizeof number, "%.6g", json.at("threshold").get<double>());
    text += std::string(", threshold ") + number;
  }
  return text;
}

}  // namespace qwb
