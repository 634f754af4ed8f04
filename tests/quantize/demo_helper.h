// The demo models' tensors and small matrices for the tests of this folder.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/codec/source.h"
#include "lib/quantize/calibrate/calibration.h"
#include "lib/quantize/method.h"

namespace qwb {

// One file of safetensors: 8 bytes of header length, a JSON header, the data.
class DemoModel {
 public:
  // "llama", "gpt2", or a folder: "tests/golden/model/qwen2"
  explicit DemoModel(const std::string& name);
  TensorView tensor(const std::string& name) const;
  bool has(const std::string& name) const { return header_.contains(name); }
  std::vector<std::string> names() const;

 private:
  MappedFile file_;
  Json header_;
  Bytes data_;
};

// A demo model as a source of tensors; some modules may be there in quantized or in other dense
// form.
class DemoSource : public TensorSource {
 public:
  explicit DemoSource(const std::string& name) : demo(name) {}
  std::optional<TensorView> find(const std::string& name) const override;
  std::vector<std::string> names() const override { return demo.names(); }
  std::optional<Weight> quantized(const std::string& module) const override;

  DemoModel demo;
  std::map<std::string, QuantizedTensor> modules;  // by module
  std::map<std::string, Tensor> tensors;           // in place of the demo's
};
// config.json of a demo model.
Json demo_config(const std::string& name);

std::string source_path(const std::string& relative);

// A task over a 2-D tensor; `in_out` says how it is stored. The bytes of `weight` must outlive the
// task.
ModuleTask make_task(const std::string& name, const TensorView& weight, bool in_out = false);
// An f32 tensor of these values.
Tensor make_tensor(const std::vector<float>& values, Shape shape);

// Windows of random tokens below `vocab`, always the same ones.
CalibrationSet random_windows(int64_t count, int64_t length, int64_t vocab);

// Every weight of a result as f32 [rows, columns] in the stored orientation, by the formulas in
// lib/codec.
std::vector<float> dequantize(const QuantizedTensor& tensor);
// Another with the same bytes.
QuantizedTensor copy_of(const QuantizedTensor& tensor);

// Unpacked codes [out, in] of an integer grid.
std::vector<uint8_t> grid_codes(const QuantizedTensor& tensor);
std::vector<uint8_t> grid_zeros(const QuantizedTensor& tensor);

// All bytes of all parts, in the order of their names: equal results have equal digests.
std::string digest(const QuantizedTensor& tensor);

// Runs a method with these settings over its defaults.
ModuleResult run_method(const std::string& method, const ModuleTask& task,
                        const Json& settings = Json::object());

}  // namespace qwb
