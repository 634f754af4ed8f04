#include "formats/hf/float_modules.h"

#include "formats/convert_weights.h"
#include "lib/codec/fp4_groups.h"
#include "lib/codec/fp8_blocks.h"

namespace qwb {
namespace {

// What stands beside a weight and does not change it.
void add_float_tensors(const Checkpoint& files, std::vector<std::string> own, FloatModule& found) {
  for (const char* beside :
       {".input_scale", ".input_zero_point", ".input_global_scale", ".weight_shape"}) {
    if (files.find(found.name + beside)) own.push_back(found.name + beside);
  }
  found.tensors = std::move(own);
  for (const char* changing : {".weight_zero_point", ".pre_quant_scale", ".weight_g_idx"}) {
    if (files.find(found.name + changing))
      throw Error(
          ErrorKind::unsupported,
          std::string("'") + (changing + 1) + "' beside a weight on a float grid",
          "module '" + found.name + "'",
          "with it the weight means something else; convert with the library that wrote it");
  }
}

TensorView float_scales(const Checkpoint& files, const std::string& name) {
  const auto view = files.find(name);
  if (view && view->dtype == DType::f8_e8m0)
    return packed_tensor(files, name, view->dtype, view->shape);
  return packed_scales(files, name, view ? view->shape : Shape{1});
}

[[noreturn]] void wrong_scales(const std::string& name, const TensorView& scales, int64_t out,
                               int64_t in) {
  throw Error(ErrorKind::failed,
              "has the shape " + shape_text(scales.shape) + ", which does not fit the weight's " +
                  shape_text({out, in}) + " and config.json",
              "tensor '" + name + "'",
              "the checkpoint is damaged, or its config.json belongs to another");
}

}  // namespace

LoadedWeight FloatModule::read(const Context& context) const {
  LoadedWeight loaded;
  loaded.weight = attach(layout, parts, name);
  require_finite(loaded.weight, name, context);
  return loaded;
}

FloatModule find_fp8(const Checkpoint& files, const std::string& module,
                     const std::string& scale_suffix, int64_t block_rows, int64_t block_columns) {
  FloatModule found{module, {}, {}, {}};
  const std::string weight = module + ".weight", scale = module + scale_suffix;
  const TensorView codes = packed_tensor_of(files, weight, DType::f8_e4m3, 2);
  const int64_t out = codes.shape[0], in = codes.shape[1];
  TensorView scales = float_scales(files, scale);
  const bool blocked = block_rows > 0 && block_columns > 0;
  if (blocked) {
    block_rows = std::min(block_rows, out);
    block_columns = std::min(block_columns, in);
  } else {
    const bool one = scales.count() == 1;
    const bool rows = scales.shape == Shape{out} || scales.shape == Shape{out, 1};
    if (!one && !rows) wrong_scales(scale, scales, out, in);
    block_rows = one ? out : 1;
    block_columns = in;
    scales.shape = {one ? 1 : out, 1};
  }
  found.layout = fp8_blocks_layout(out, in, block_rows, block_columns, scales.dtype);
  if (found.layout.spec("scales").shape != scales.shape) wrong_scales(scale, scales, out, in);
  found.parts = {{"codes", codes}, {"scales", scales}};
  add_float_tensors(files, {weight, scale}, found);
  return found;
}

FloatModule find_fp4(const Checkpoint& files, const std::string& module, const Fp4Names& names) {
  FloatModule found{module, {}, {}, {}};
  std::vector<std::string> tensors = {module + names.codes, module + ".weight_scale"};
  const TensorView codes = packed_tensor_of(files, tensors[0], DType::u8, 2);
  const int64_t out = codes.shape[0], in = checked_mul(codes.shape[1], 2, module);
  const Fp4GroupsLayout form = {.group_size = names.global != nullptr ? 16 : 32,
                                .global = names.global != nullptr,
                                .divides = names.divides};
  found.layout = fp4_groups_layout(out, in, form);
  const PartSpec wanted = found.layout.spec("scales");
  // compressed-tensors and ModelOpt store E8M0 as bytes.
  const auto stored = files.find(tensors[1]);
  const bool bytes = names.global == nullptr && stored && stored->dtype == DType::u8;
  TensorView scales =
      packed_tensor(files, tensors[1], bytes ? DType::u8 : wanted.dtype, wanted.shape);
  scales.dtype = wanted.dtype;
  found.parts = {{"codes", codes}, {"scales", scales}};
  if (names.global != nullptr) {
    tensors.push_back(module + names.global);
    const auto view = files.find(tensors[2]);
    const bool scalar = view && view->shape.empty();
    TensorView global = packed_tensor(files, tensors[2], DType::f32, scalar ? Shape{} : Shape{1});
    global.shape = {1};
    found.parts["global"] = global;
  }
  add_float_tensors(files, std::move(tensors), found);
  return found;
}

}  // namespace qwb
