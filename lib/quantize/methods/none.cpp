// Method "none": the weight as it is, or narrowed to 16 bits (round to nearest, ties to even).
// Keeps the stored orientation.
#include <cmath>

#include "lib/base/parallel.h"
#include "lib/codec/dense.h"
#include "lib/quantize/encode/module_weight.h"
#include "lib/quantize/method.h"

namespace qwb {
namespace {

constexpr int64_t kElements = 1 << 16;  // elements per parallel item

DType target_type(const ModuleInfo& module, const Settings& settings) {
  const std::string choice = json_string(settings, "dtype", "method none");
  if (choice == "bf16") return DType::bf16;
  if (choice == "f16") return DType::f16;
  if (choice == "f32") return DType::f32;
  return module.dtype;
}

class None : public Method {
 public:
  std::string name() const override { return "none"; }
  std::string summary() const override {
    return "no quantization: copy, or convert to bf16, f16 or f32";
  }
  int version() const override { return 1; }
  std::vector<Parameter> parameters() const override {
    Parameter dtype{.name = "dtype",
                    .kind = Parameter::Kind::choice,
                    .fallback = "source",
                    .choices = {"source", "bf16", "f16", "f32"},
                    .help = "element type of the copy; source keeps the checkpoint's"};
    return {dtype};
  }
  double bits(const Settings& settings) const override {
    const std::string choice = json_string(settings, "dtype", "method none");
    return choice == "f32" ? 32 : 16;
  }
  WeightLayout layout(const ModuleInfo& module, const Settings& settings) const override {
    return dense_layout({module.out, module.in, module.orientation}, target_type(module, settings));
  }
  ModuleResult quantize(const ModuleTask& task, const Settings& settings) const override;
};

ModuleResult None::quantize(const ModuleTask& task, const Settings& settings) const {
  check_task(task);
  ModuleResult result;
  result.tensor = QuantizedTensor(layout(task.info, settings));
  Tensor& weight = result.tensor.parts.at("weight");
  const DType type = weight.dtype();
  const int64_t size = dtype_size(type);
  std::vector<ErrorSum> errors(static_cast<size_t>(ceil_div(weight.count(), kElements)));
  parallel_ranges(task.context, weight.count(), kElements, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>(end - begin));
    read_finite(task, begin, end - begin, values.data());
    std::byte* out = weight.bytes().data() + begin * size;
    if (type == task.info.dtype) {
      std::memcpy(out, task.weight.bytes.data() + begin * size,
                  static_cast<size_t>((end - begin) * size));
      return;
    }
    narrow(values.data(), end - begin, type, out, task.info.name);
    std::vector<float> narrowed(values.size());
    read_floats(weight.view(), begin, end - begin, narrowed.data(), task.info.name);
    for (size_t i = 0; i < values.size(); ++i)
      errors[begin / kElements].add(values[i], narrowed[i]);
  });
  result.weight_error = relative_error(errors);
  return result;
}

}  // namespace

std::unique_ptr<Method> make_none() {
  return std::make_unique<None>();
}

}  // namespace qwb
