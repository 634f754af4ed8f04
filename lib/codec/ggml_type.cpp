#include "lib/codec/ggml_type.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace qwb {
namespace {

using Foreign = std::pair<uint32_t, std::string_view>;
// ggml/include/ggml.h; the retired ones too, which files of 2023 and 2024 have.
constexpr std::array<Foreign, 27> kForeign = {{{4, "Q4_2 (retired)"},
                                               {5, "Q4_3 (retired)"},
                                               {31, "Q4_0_4_4 (retired)"},
                                               {32, "Q4_0_4_8 (retired)"},
                                               {33, "Q4_0_8_8 (retired)"},
                                               {36, "IQ4_NL_4_4 (retired)"},
                                               {37, "IQ4_NL_4_8 (retired)"},
                                               {38, "IQ4_NL_8_8 (retired)"},
                                               {9, "Q8_1"},
                                               {15, "Q8_K"},
                                               {16, "IQ2_XXS"},
                                               {17, "IQ2_XS"},
                                               {18, "IQ3_XXS"},
                                               {19, "IQ1_S"},
                                               {21, "IQ3_S"},
                                               {22, "IQ2_S"},
                                               {24, "I8"},
                                               {25, "I16"},
                                               {26, "I32"},
                                               {27, "I64"},
                                               {28, "F64"},
                                               {29, "IQ1_M"},
                                               {34, "TQ1_0"},
                                               {35, "TQ2_0"},
                                               {40, "NVFP4"},
                                               {41, "Q1_0"},
                                               {42, "Q2_0"}}};

}  // namespace

const std::vector<GgmlTypeInfo>& ggml_types() {
  static const std::vector<GgmlTypeInfo> all = {
      {GgmlType::f32, "F32", 1, 4},           {GgmlType::f16, "F16", 1, 2},
      {GgmlType::bf16, "BF16", 1, 2},         {GgmlType::q4_0, "Q4_0", 32, 18},
      {GgmlType::q4_1, "Q4_1", 32, 20},       {GgmlType::q5_0, "Q5_0", 32, 22},
      {GgmlType::q5_1, "Q5_1", 32, 24},       {GgmlType::q8_0, "Q8_0", 32, 34},
      {GgmlType::q2_k, "Q2_K", 256, 84},      {GgmlType::q3_k, "Q3_K", 256, 110},
      {GgmlType::q4_k, "Q4_K", 256, 144},     {GgmlType::q5_k, "Q5_K", 256, 176},
      {GgmlType::q6_k, "Q6_K", 256, 210},     {GgmlType::iq4_nl, "IQ4_NL", 32, 18},
      {GgmlType::iq4_xs, "IQ4_XS", 256, 136}, {GgmlType::mxfp4, "MXFP4", 32, 17}};
  return all;
}

std::optional<GgmlType> ggml_type_from_number(uint32_t number) {
  for (const GgmlTypeInfo& info : ggml_types()) {
    if (static_cast<uint32_t>(info.type) == number) return info.type;
  }
  return std::nullopt;
}

const GgmlTypeInfo& ggml_info(GgmlType type) {
  for (const GgmlTypeInfo& info : ggml_types()) {
    if (info.type == type) return info;
  }
  throw std::logic_error("not a ggml type");
}

std::optional<GgmlType> ggml_type_from_name(std::string_view name) {
  const auto same = [](char a, char b) { return std::toupper(static_cast<unsigned char>(a)) == b; };
  for (const GgmlTypeInfo& info : ggml_types()) {
    if (std::equal(name.begin(), name.end(), info.name.begin(), info.name.end(), same))
      return info.type;
  }
  return std::nullopt;
}

std::string_view ggml_foreign_name(uint32_t number) {
  for (const auto& [id, name] : kForeign) {
    if (id == number) return name;
  }
  return {};
}

bool ggml_is_quantized(GgmlType type) {
  return ggml_info(type).block > 1;
}

float ggml_mxfp4_scale(int e) {
  return std::ldexp(1.0f, e - 128);
}

int ggml_code_bits(GgmlType type) {
  const std::string_view name = ggml_info(type).name;  // "IQ4_NL"
  return name[name.find_first_of("0123456789")] - '0';
}

}  // namespace qwb
