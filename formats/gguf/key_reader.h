// The keys under an architecture's name.
#pragma once

#include <string>

#include "formats/gguf/file.h"

namespace qwb {

// Names are those behind "ARCHITECTURE.". The readers throw `failed` naming the key where there is
// none and no fallback, or where its value is of another kind.
struct GgufKeyReader {
  const GgufMetadata& metadata;
  const std::string& architecture;
  const std::string& where;

  std::string key(const std::string& name) const { return architecture + "." + name; }
  bool has(const std::string& name) const { return metadata.find(key(name)) != nullptr; }
  int64_t integer(const std::string& name) const { return metadata.integer(key(name), where); }
  int64_t integer(const std::string& name, int64_t fallback) const {
    return metadata.integer(key(name), where, fallback);
  }
  // f32 is read as the shortest decimal that stands for it.
  double number(const std::string& name) const;
  double number(const std::string& name, double fallback) const;
  std::string text(const std::string& name, const std::string& fallback) const {
    return metadata.text(key(name), where, fallback);
  }
  // Elements of a head of q and k, as llama.cpp takes it.
  int64_t head_dim() const;
};

}  // namespace qwb
