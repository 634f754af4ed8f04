// A quantization method: how the weight of one module becomes codes. One file per method and one
// line in registry.cpp. A method declares its parameters once; the flags and help of qwb-quantize,
// the settings in qwb.json and the cache key are made from that declaration. Methods know neither
// files nor models.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/json.h"
#include "lib/codec/weight.h"
#include "lib/exec/executor.h"

namespace qwb {

struct Parameter {
  enum class Kind { integer, number, boolean, choice };
  std::string name;  // as in qwb.json: "group_size"; the flag is --group-size
  Kind kind = Kind::integer;
  Json fallback;       // the default
  double minimum = 0;  // integer and number: the range allowed, ends included
  double maximum = 0;
  std::vector<std::string> choices = {};  // choice: the values allowed
  std::string help;                       // one line for --help
  // Left out of the settings where it has its default: what was made before it came keeps its
  // settings, and with them its key and its bits.
  bool implied = false;
};

// Parameter values by name: an object holding every parameter of the method (but those implied), in
// the order of the declaration.
using Settings = Json;

// What is known of a module before its weight is read.
struct ModuleInfo {
  std::string name;  // checkpoint name without ".weight"
  int64_t out = 0;
  int64_t in = 0;
  Orientation orientation = Orientation::out_in;  // of the checkpoint's tensor
  DType dtype = DType::f32;                       // of the checkpoint's tensor
  bool bias = false;                              // has one
};

// Second moments of a module's inputs over the calibration tokens, f32 row-major, in the memory of
// the executor that all work with them is handed to. x is what the
// module reads in the model as quantized so far; x* what it reads in the original model. A module
// that adds its output to the residual stream is told instead what it should add: y = r* + W x* -
// r, with r and r* the streams of the two models before it, makes up for their distance too.
struct Moments {
  const Executor* executor = nullptr;
  int64_t tokens = 0;
  In hessian;  // H = sum of x x^T [in, in], both triangles; empty: there are none
  // One of these, if the original was followed: sum of (x* - x) x^T [in, in], or sum of y x^T
  // [hidden, in].
  In drift, wanted;
  // The means were taken out of the sums above, and a bias makes up for them
  // (ModuleResult::bias_shift): the means over the tokens of x, x* - x, y.
  bool centred = false;
  std::vector<float> input_mean, drift_mean, wanted_mean;
  // The mean of |x| by channel; for Method::scale_inputs only.
  std::vector<float> input_magnitude;
};

// Scales that left a module's neighbours and went into its weight: what is quantized is
// w[o, i] * columns[i] / rows[o]. An empty vector is all ones.
struct FoldedScales {
  std::vector<float> columns;  // the operation before divides its output by these
  std::vector<float> rows;     // the module behind multiplies its columns with these
  bool empty() const { return columns.empty() && rows.empty(); }
};

struct ModuleTask {
  ModuleInfo info;
  TensorView weight;                 // the checkpoint's tensor, oriented as info says
  const Moments* moments = nullptr;  // for methods that need calibration
  // Set only for methods that scale inputs; read_out_in() (module_weight.h) applies it.
  const FoldedScales* folded = nullptr;
  // The first rows of the weight that make queries and keys: their errors meet in a product, not in
  // a sum.
  int64_t query_key_rows = 0;
  Context context = {};  // of the loops over the weight
};

// One input group of a block: the modules that read one input, and whatever makes that input.
// Scaling divides each input channel by a factor inside the operation before (a norm's gain and
// bias, the rows of another module) and multiplies the modules' columns with it, which changes
// nothing but how well the weights can be rounded.
struct InputGroupTask {
  struct Module {
    ModuleTask task;  // without moments
    const Settings* settings = nullptr;
  };
  std::vector<Module> modules;  // all of this method
  const Context& context() const { return modules.front().task.context; }
  const Moments* moments =
      nullptr;  // of the input in the model as quantized so far: tokens, hessian, magnitude
  // The scale of each input channel, 0 .. scales - 1: channels that repeat one value (heads that
  // share their values) have one scale.
  std::vector<int64_t> scale_of;
  int64_t scales = 0;
  // By scale: the largest magnitude that will be divided by it.
  std::vector<float> divided;
  // By scale, if the input comes from a norm: its gain, and the type that gain / scale will be
  // stored in.
  std::vector<float> gains;
  DType gain_type = DType::f32;
  float gain_offset = 0;  // of the norm: what is stored is gain / scale - gain_offset
};

struct InputScales {
  std::vector<float> scales;      // empty: the input group is best left alone
  Json details = Json::object();  // for each of its modules
};

struct ModuleResult {
  QuantizedTensor tensor;
  // Relative squared error of the weights, |W - Q|^2 / |W|^2, and with calibration that of the
  // module's output on the calibration inputs, tr((W - Q) H (W - Q)^T) / tr(W H W^T).
  double weight_error = 0;
  std::optional<double> output_error;
  std::vector<float> bias_shift;  // to be added to the module's bias; empty: the bias stays
  Json details = Json::object();  // whatever else the method wants in qwb.json (damping used, dead
                                  // columns, ...)
};

class Method {
 public:
  virtual ~Method() = default;
  virtual std::string name() const = 0;     // "nf4"
  virtual std::string summary() const = 0;  // one line for --help
  // Raised whenever the same request would give other bits: part of the cache key.
  virtual int version() const = 0;
  virtual std::vector<Parameter> parameters() const = 0;
  virtual bool needs_calibration() const { return false; }
  // Asks for the moments against the original model (Moments::drift and wanted).
  virtual bool wants_reference(const Settings& /*settings*/) const { return false; }
  // `given`, with what other given values decide instead of the declaration's defaults.
  virtual Json completed(const Json& given) const { return given; }
  // Throws usage for what the declaration cannot say (a block size that is no power of two).
  // resolve_settings() calls it.
  virtual void check(const Settings& /*settings*/) const {}
  // The method chooses scales for whole input groups before their modules are quantized. An input
  // group is offered only if all of its modules have this method and what makes their input can
  // take the scales without any error: a norm, or rows of a module that has this method too.
  virtual bool scales_inputs(const Settings& /*settings*/) const { return false; }
  virtual InputScales scale_inputs(const InputGroupTask& /*group*/) const { return {}; }
  // Nominal bits per code for tables.
  virtual double bits(const Settings& settings) const = 0;
  // How the module will be stored: enough to lay out the artifact before the work begins. Throws
  // usage, naming the module, if the settings do not fit it (a group larger than the row, say).
  virtual WeightLayout layout(const ModuleInfo& module, const Settings& settings) const = 0;
  // The parts have exactly the shapes that layout() promised. Throws `failed`, naming the module,
  // on NaN or Inf in weight or moments; interrupted. The result does not depend on the number of
  // threads.
  virtual ModuleResult quantize(const ModuleTask& task, const Settings& settings) const = 0;
};

// Every method, in the order shown to users.
const std::vector<std::unique_ptr<Method>>& methods();
// Throws usage, listing the names, if there is no such method.
const Method& find_method(std::string_view name);
// The bits per code of a method without a parameter "bits"; 0 for the others. Naming them is
// allowed wherever parameters are given.
double fixed_bits(const Method& method);
// Completes `given` with the defaults, in declaration order; throws usage for an unknown name, a
// wrong type or a value out of range.
Settings resolve_settings(const Method& method, const Json& given);

}  // namespace qwb
