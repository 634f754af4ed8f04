// A llama of two layers, small enough to be written for every test, whose tensors and settings can
// be changed first.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/base/progress.h"
#include "lib/tensor/tensor.h"

namespace qwb {

struct TinyModel {
  Json config;
  std::map<std::string, Tensor> tensors;

  TinyModel();  // f32, untied
  void add(const std::string& name, const Shape& shape, float value = 0.5f,
           DType type = DType::f32);
  // Random numbers of about that size.
  void fill(const std::string& name, float size);
  // The linear module as symmetric GPTQ words of 4 bits, groups of 32; `zeros`: the word of zero
  // points.
  void pack_gptq(const std::string& module, uint32_t zeros);
  // All linear modules so, and the settings for them.
  void pack_all_gptq(uint32_t zeros, const Json& more = Json::object());
  // As compressed-tensors of 4 bits, groups of 32.
  void pack_all_compressed(const std::string& key, const Json& more = Json::object());
  // Writes the folder anew.
  Path write(const Path& folder) const;
};

std::vector<std::string> tiny_linears();

// Keeps what it is told.
class Notes : public Progress {
 public:
  void note(const std::string& text) override { all += text + "\n"; }
  std::string all;
};

}  // namespace qwb
