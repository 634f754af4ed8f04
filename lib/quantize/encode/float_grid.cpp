#include "lib/quantize/encode/float_grid.h"

#include <algorithm>
#include <cmath>

#include "lib/base/names.h"
#include "lib/codec/bit_codes.h"
#include "lib/codec/fp4_groups.h"
#include "lib/codec/fp8_blocks.h"
#include "lib/exec/float_grid.h"

namespace qwb {
namespace {

constexpr char kIntegers[] = "int";
constexpr int64_t kBlock = 128;

struct FloatKind {
  const char* name;
  int64_t bits, group_size;  // -1: the row
};
constexpr FloatKind kFloatKinds[] = {{"fp8", 8, -1},
                                     {"fp8-tensor", 8, -1},
                                     {"fp8-block", 8, kBlock},
                                     {"nvfp4", 4, 16},
                                     {"mxfp4", 4, 32}};

const FloatKind* kind_named(const std::string& name) {
  const auto* kind = std::find_if(std::begin(kFloatKinds), std::end(kFloatKinds),
                                  [&](const FloatKind& one) { return same_name(one.name, name); });
  return kind == std::end(kFloatKinds) ? nullptr : kind;
}

const FloatKind& kind_of(const Settings& settings) {
  return *kind_named(json_string(settings, "grid", "grid"));
}

// Rows and columns that share a scale.
int64_t shared_rows(const ModuleInfo& module, const std::string& kind) {
  if (kind == "fp8-tensor") return module.out;
  return kind == "fp8-block" ? std::min(kBlock, module.out) : 1;
}
int64_t shared_columns(const ModuleInfo& module, const FloatKind& kind) {
  return kind.group_size == -1 ? module.in : std::min(kind.group_size, module.in);
}

float largest_magnitude(const float* values, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(values[i]));
  return largest;
}

// The largest power of two under which the scale of the group with the largest weight still is an
// E4M3 number.
float outer_scale(float largest) {
  if (largest == 0) return 1;
  int exponent = 0;
  std::frexp(kE4m3Points.largest * kE2m1Points.largest / largest, &exponent);
  return std::ldexp(1.0f, std::clamp(exponent - 1, -100, 100));
}

// By rows that share a scale, then by groups.
std::vector<float> shared_scales(const ModuleInfo& module, const FloatGrid& shared,
                                 const float* weight) {
  const int64_t size = shared.grid.group_size, groups = shared.grid.groups(module.in);
  std::vector<float> scales(static_cast<size_t>(module.out * groups));
  for (int64_t first = 0; first < module.out; first += shared.rows) {
    const int64_t last = std::min(module.out, first + shared.rows);
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t count = std::min(size, module.in - g * size);
      float largest = 0;
      for (int64_t o = first; o < last; ++o)
        largest = std::max(largest, largest_magnitude(weight + o * module.in + g * size, count));
      const float scale = covering_scale(largest, shared.grid);
      for (int64_t o = first; o < last; ++o) scales[o * groups + g] = scale;
    }
  }
  return scales;
}

}  // namespace

Parameter grid_choice() {
  Parameter parameter{.name = "grid",
                      .kind = Parameter::Kind::choice,
                      .fallback = kIntegers,
                      .choices = {kIntegers},
                      .help =
                          "what codes stand for: integers, or floats with their own groups and "
                          "scales (fp8: a scale for each channel)"};
  parameter.implied = true;
  for (const FloatKind& kind : kFloatKinds) parameter.choices.emplace_back(kind.name);
  return parameter;
}

bool is_float_grid(const Settings& settings) {
  return json_string(settings, "grid", "grid", kIntegers) != kIntegers;
}

Json with_grid_defaults(const Json& given) {
  Json completed = given;
  if (!json_has(given, "grid") || !given.at("grid").is_string()) return completed;
  const FloatKind* kind = kind_named(given.at("grid").get<std::string>());
  if (kind == nullptr) return completed;
  if (!given.contains("bits")) completed["bits"] = kind->bits;
  if (!given.contains("group_size")) completed["group_size"] = kind->group_size;
  return completed;
}

void check_float_grid(const Settings& settings, const std::string& scale_dtype,
                      const std::string& method) {
  if (!is_float_grid(settings)) return;
  const FloatKind& kind = kind_of(settings);
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::usage, "the grid " + std::string(kind.name) + " " + what,
                "method " + method, "leave it out: the grid decides it");
  };
  if (json_int(settings, "bits", method) != kind.bits)
    refuse("has " + std::to_string(kind.bits) + " bits");
  if (json_int(settings, "group_size", method) != kind.group_size)
    refuse("has the group_size " + std::to_string(kind.group_size));
  if (!json_bool(settings, "symmetric", method)) refuse("has no zero points");
  if (json_string(settings, "scale_dtype", method) != scale_dtype)
    refuse("has scales of its own type");
}

WeightLayout float_grid_layout(const ModuleInfo& module, const Settings& settings) {
  const FloatKind& kind = kind_of(settings);
  if (kind.bits == 8)
    return fp8_blocks_layout(module.out, module.in, shared_rows(module, kind.name),
                             shared_columns(module, kind));
  if (module.in < kind.group_size)
    throw Error(ErrorKind::usage,
                "the grid " + std::string(kind.name) + " has groups of " +
                    std::to_string(kind.group_size) + ", and there are " +
                    std::to_string(module.in) + " input channels",
                module.name, "leave this module unquantized");
  return fp4_groups_layout(module.out, module.in, kind.group_size == 16 ? kNvfp4 : kMxfp4);
}

FloatGrid float_grid(const ModuleInfo& module, const Settings& settings, const float* weight) {
  const FloatKind& kind = kind_of(settings);
  FloatGrid result;
  result.grid.bits = static_cast<int>(kind.bits);
  result.grid.group_size = shared_columns(module, kind);
  result.grid.points = kind.bits == 8 ? GridPoints::e4m3 : GridPoints::e2m1;
  result.grid.scale_dtype = kind.bits == 8          ? DType::f32
                            : kind.group_size == 16 ? DType::f8_e4m3
                                                    : DType::f8_e8m0;
  if (result.grid.scale_dtype == DType::f8_e4m3)
    result.grid.outer = outer_scale(largest_magnitude(weight, module.out * module.in));
  result.rows = shared_rows(module, kind.name);
  if (result.rows > 1) result.scales = shared_scales(module, result, weight);
  return result;
}

void store_float_row(QuantizedTensor& tensor, const FloatGrid& grid, int64_t row,
                     const uint8_t* codes, const Grid* grids) {
  const int64_t groups = grid.grid.groups(tensor.in),
                stride = packed_bytes(tensor.in, tensor.code_bits());
  pack_codes(codes, tensor.in, tensor.code_bits(),
             tensor.parts.at("codes").bytes().data() + row * stride);
  std::byte* scales = tensor.parts.at("scales").bytes().data();
  if (grid.grid.scale_dtype != DType::f32) {
    for (int64_t g = 0; g < groups; ++g)
      scales[row * groups + g] = static_cast<std::byte>(scale_code(grids[g].scale, grid.grid));
    return;
  }
  if (row % grid.rows != 0) return;  // the first of those that share it stores it
  for (int64_t g = 0; g < groups; ++g)
    store(scales + 4 * (row / grid.rows * groups + g), grids[g].scale);
}

void store_shared_scale(QuantizedTensor& tensor, const FloatGrid& grid) {
  if (tensor.has("global")) tensor.parts.at("global").data<float>()[0] = grid.grid.outer;
}

}  // namespace qwb
