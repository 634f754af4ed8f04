#include "lib/quantize/encode/integer_grid.h"

#include "lib/base/half.h"
#include "lib/codec/integer_grid.h"

namespace qwb {
namespace {

DType scale_type(const std::string& choice, DType weight) {
  if (choice == "bf16") return DType::bf16;
  const bool full = choice == "f32" || (choice == "auto" && dtype_size(weight) >= 4);
  return full ? DType::f32 : DType::f16;
}

}  // namespace

std::vector<Parameter> grid_parameters(const std::string& scale_dtype, bool symmetric) {
  return {
      {.name = "bits",
       .kind = Parameter::Kind::integer,
       .fallback = 4,
       .minimum = 2,
       .maximum = 8,
       .help = "bits per code"},
      {.name = "group_size",
       .kind = Parameter::Kind::integer,
       .fallback = 128,
       .minimum = -1,
       .maximum = 1 << 20,
       .help = "input channels that share a scale; -1: the whole row"},
      {.name = "symmetric",
       .kind = Parameter::Kind::boolean,
       .fallback = symmetric,
       .help = "no zero points: the grid is centred on zero"},
      {.name = "scale_dtype",
       .kind = Parameter::Kind::choice,
       .fallback = scale_dtype,
       .choices = {"auto", "f16", "bf16", "f32"},
       .help = "element type of the scales; auto: f32 for f32 checkpoints, else f16"},
  };
}

void check_grid_settings(const Settings& settings, const std::string& method) {
  if (json_int(settings, "group_size", method) == 0) {
    throw Error(ErrorKind::usage, "group_size must not be 0", "method " + method,
                "-1 means the whole row");
  }
}

GridSettings grid_settings(const ModuleInfo& module, const Settings& settings) {
  GridSettings grid;
  grid.bits = static_cast<int>(json_int(settings, "bits", module.name));
  grid.group_size = json_int(settings, "group_size", module.name);
  grid.symmetric = json_bool(settings, "symmetric", module.name);
  grid.scale_dtype = scale_type(json_string(settings, "scale_dtype", module.name), module.dtype);
  if (grid.group_size == -1) grid.group_size = module.in;
  if (grid.group_size < 1 || grid.group_size > module.in) {
    throw Error(ErrorKind::usage,
                "group_size " + std::to_string(grid.group_size) + " does not fit the " +
                    std::to_string(module.in) + " input channels",
                module.name, "use a smaller group, or -1 for one group per row");
  }
  return grid;
}

WeightLayout grid_layout(const ModuleInfo& module, const Settings& settings) {
  const GridSettings grid = grid_settings(module, settings);
  return integer_grid_layout(module.out, module.in,
                             {.bits = grid.bits,
                              .group_size = grid.group_size,
                              .symmetric = grid.symmetric,
                              .scale_dtype = grid.scale_dtype});
}

void store_grid_row(QuantizedTensor& tensor, const GridSettings& settings, int64_t row,
                    const uint8_t* codes, const Grid* grids) {
  const int64_t groups = settings.groups(tensor.in);
  pack_codes(
      codes, tensor.in, settings.bits,
      tensor.parts.at("codes").bytes().data() + row * packed_bytes(tensor.in, settings.bits));
  std::byte* scales =
      tensor.parts.at("scales").bytes().data() + row * groups * dtype_size(settings.scale_dtype);
  for (int64_t g = 0; g < groups; ++g) {
    switch (settings.scale_dtype) {
      case DType::f16:
        store(scales + 2 * g, f32_to_f16(grids[g].scale));
        break;
      case DType::bf16:
        store(scales + 2 * g, f32_to_bf16(grids[g].scale));
        break;
      default:
        store(scales + 4 * g, grids[g].scale);
        break;
    }
  }
  if (settings.symmetric) return;
  std::vector<uint8_t> zeros(static_cast<size_t>(groups));
  for (int64_t g = 0; g < groups; ++g) zeros[g] = static_cast<uint8_t>(grids[g].zero);
  pack_codes(zeros.data(), groups, settings.bits,
             tensor.parts.at("zeros").bytes().data() + row * packed_bytes(groups, settings.bits));
}

}  // namespace qwb
