// Which forward pass the modules stored as int8 rows take: their weights dequantized into f32
// products, or LLM.int8's products of 8-bit activations with outlier columns apart
// (lib/exec/cpu/int8_product.md). Chosen by the executor that a model is loaded with.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "lib/base/json.h"
#include "lib/exec/devices.h"
#include "lib/model/model.h"

namespace qwb {

struct Int8Forward {
  std::optional<float>
      threshold;  // of LLM.int8's outliers, 0: none; nothing: weights are dequantized
};

// The fast executor, or LLM.int8's. Throws usage for a threshold that makes no sense.
std::unique_ptr<Executor> make_executor(const Int8Forward& forward, Threads threads);
// The same on a chosen device (choose_device()). Throws unsupported for LLM.int8 on a GPU, and what
// make_cuda_executor() throws.
std::unique_ptr<Executor> make_executor(const DeviceChoice& device, const Int8Forward& forward,
                                        Threads threads);

// Throws usage, naming `where`, if LLM.int8 is asked for and no module of the model is stored as
// int8 rows.
void require_int8_modules(const Model& model, const Int8Forward& forward, const std::string& where);

// For results: null for a model without int8 modules, else {"name": "dequantize"} or
// {"name": "LLM.int8", "threshold": 6.0}.
Json int8_forward_json(const Model& model, const Int8Forward& forward);
// "dequantize" or "LLM.int8, threshold 6" from that object; empty for null.
std::string int8_forward_text(const Json& json);

}  // namespace qwb
