// A format that only the tests know, to show what adding one takes: this file, and one line that
// names it (add_format).
//   <module>.q I8 [out, in]     the codes of int8 rows
//   <module>.s F32 [out]        the largest magnitude of each row
// config.json: {"quantization_config": {"quant_method": "rows", "modules": 2}}
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/hf/packed_format.h"
#include "lib/codec/int8_rows.h"

namespace qwb::testing {

class RowsReading : public PackedReader {
 public:
  std::string name() const override { return "rows"; }
  bool matches(const Json& settings) const override {
    return json_string(settings, "quant_method", "rows", "") == name();
  }
  void check(const Json& /*settings*/) const override {}
  std::vector<PackedModule> modules(const Checkpoint& files, const Json& /*settings*/,
                                    const Context& /*context*/) const override {
    std::vector<PackedModule> modules;
    for (const std::string& tensor : files.names()) {
      if (!tensor.ends_with(".q")) continue;
      const std::string module = tensor.substr(0, tensor.size() - 2);
      const TensorView codes = packed_tensor_of(files, tensor, DType::i8, 2);
      modules.push_back(
          {module, int8_rows_layout(codes.shape[0], codes.shape[1]), {tensor, module + ".s"}});
    }
    return modules;
  }
  LoadedWeight read(const Checkpoint& files, const Json& /*settings*/, const PackedModule& module,
                    const Context& /*context*/) const override {
    const int64_t out = module.layout.out, in = module.layout.in;
    const Int8Rows rows{packed_tensor(files, module.name + ".q", DType::i8, {out, in}),
                        packed_tensor(files, module.name + ".s", DType::f32, {out})};
    return {{out, in, Orientation::out_in, rows}, {}};
  }
};

class RowsWriting : public PackedWriter {
 public:
  Fit fit(const TargetModule& module, const WeightReader& /*read*/) const override {
    return module.layout.as<Int8Rows>() != nullptr ? Fit{} : Fit::no("has no rows of int8");
  }
  std::vector<PartSpec> layout(const TargetModule& module) const override {
    const int64_t out = module.layout.out, in = module.layout.in;
    return {{module.name + ".q", DType::i8, {out, in}}, {module.name + ".s", DType::f32, {out}}};
  }
  PackedTensors write(const TargetModule& module, const Weight& weight, const Json& /*settings*/,
                      const Context& /*context*/) const override {
    PackedTensors tensors;
    tensors.views[module.name + ".q"] = weight.get<Int8Rows>().codes;
    tensors.views[module.name + ".s"] = weight.get<Int8Rows>().absmax;
    return tensors;
  }
  Json quantization_config(const std::vector<TargetModule>& modules,
                           const std::vector<TargetModule>& /*plain*/) const override {
    return {{"quant_method", "rows"}, {"modules", modules.size()}};
  }
};

inline ModelFormat rows_format() {
  return packed_format("rows", "a signed byte for each code", std::make_shared<RowsReading>(),
                       std::make_shared<RowsWriting>());
}

}  // namespace qwb::testing
