// The demo models' tensors and small matrices for the tests of this folder.
#pragma once

#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/quantize/method.h"

namespace qwb {

// One file of safetensors: 8 bytes of header length, a JSON header, the data.
class DemoModel {
 public:
  explicit DemoModel(const std::string& name);  // "llama" or "gpt2"
  TensorView tensor(const std::string& name) const;

 private:
  MappedFile file_;
  Json header_;
  Bytes data_;
};

std::string source_path(const std::string& relative);

// A task over a 2-D tensor; `in_out` says how it is stored. The bytes of `weight` must outlive the task.
ModuleTask make_task(const std::string& name, const TensorView& weight, bool in_out = false);
// An f32 tensor of these values.
Tensor make_tensor(const std::vector<float>& values, Shape shape);

// Every weight of a result as f32 [rows, columns] in the stored orientation, by the formulas in
// lib/tensor/weight.h.
std::vector<float> dequantize(const QuantizedTensor& tensor);

// Unpacked codes [out, in] of an integer grid.
std::vector<uint8_t> grid_codes(const QuantizedTensor& tensor);
std::vector<uint8_t> grid_zeros(const QuantizedTensor& tensor);

// All bytes of all parts, in the order of their names: equal results have equal digests.
std::string digest(const QuantizedTensor& tensor);

// Runs a method with these settings over its defaults.
ModuleResult run_method(const std::string& method, const ModuleTask& task,
                        const Json& settings = Json::object());

}  // namespace qwb
