// FP4 weights whose groups have scales of eight bits: NVFP4 and MXFP4.
#pragma once

#include "lib/codec/weight.h"

namespace qwb {

// w[o, i] = e2m1(code[o, i]) * s(o, i / group_size), in f32
//   codes  U8 [out, ceil(in / 2)]  element 2j in the low nibble of byte j
//   scales F8_E8M0 [out, ceil(in / group_size)]: s is the scale (MXFP4)
//   scales F8_E4M3 with
//   global F32 [1]: s = scale / global, if the global scale divides (compressed-tensors), else
//          scale * global (ModelOpt), rounded to f32 (NVFP4)
// Always in the orientation out_in.
struct Fp4Groups : EncodingOf<Fp4Groups> {
  int64_t group_size = 16;
  bool divides = false;
  TensorView codes;
  TensorView scales;
  TensorView global;

  static constexpr char kName[] = "fp4-groups";
  static constexpr NamedPart<Fp4Groups> kParts[] = {
      {"codes", &Fp4Groups::codes}, {"scales", &Fp4Groups::scales}, {"global", &Fp4Groups::global}};

  bool has_global() const { return !global.shape.empty(); }
  // s of that row and group.
  float scale(int64_t row, int64_t group) const;

  void read(ParameterReader& parameters, const PartViews& parts);
  Json parameters() const override;
  int code_bits() const override { return 4; }
  void check(const WeightShape& shape, const std::string& where) const override;
  void decode_row(const WeightShape& shape, int64_t row, double* values) const override;
};

struct Fp4GroupsLayout {
  int64_t group_size = 16;
  bool global = true;  // E4M3 scales and a global one; else E8M0 scales
  bool divides = true;
};
inline constexpr Fp4GroupsLayout kNvfp4 = {.group_size = 16, .global = true, .divides = true};
inline constexpr Fp4GroupsLayout kMxfp4 = {.group_size = 32, .global = false, .divides = false};
WeightLayout fp4_groups_layout(int64_t out, int64_t in, const Fp4GroupsLayout& groups);

}  // namespace qwb
