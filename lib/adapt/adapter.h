// A LoRA adapter in memory, free of any device and of any file's layout: for some linear modules of
// a base y = W x, y += scale * B (A x). Read and written by peft_reader.h, peft_writer.h and
// gguf_adapter.h; put to work unmerged by attach.h, merged by merged_source.h.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lib/tensor/tensor.h"

namespace qwb {

// What adapter_config.json says of how it was made. Scale and rank of a module are in the module.
struct AdapterSettings {
  int64_t rank = 8;
  double alpha = 8;
  bool rslora = false;        // scale alpha / sqrt(rank) instead of alpha / rank
  double dropout = 0;         // while training
  std::string base = {};      // base_model_name_or_path; may be empty
  std::string revision = {};  // of the base; empty: not told
  // Modules by which the adapter was asked for: suffixes of names. Told by files that were read; a
  // writer makes them from the modules.
  std::vector<std::string> targets = {};
};

// The factors of one module, f32, row-major.
struct AdapterModule {
  std::string module;  // its name in the checkpoint (bind.h), without ".weight"
  int64_t rank = 0, in = 0, out = 0;
  std::vector<float> a = {};  // [rank, in]
  std::vector<float> b = {};  // [out, rank]
  float scale = 1;
};

struct Adapter {
  AdapterSettings settings;
  std::vector<AdapterModule> modules;  // by name, ascending
  // Tensors of the base that are replaced as a whole, by their names in the checkpoint: those of
  // modules_to_save, and trained biases.
  std::map<std::string, std::shared_ptr<const Tensor>> replaced;

  int64_t values() const;  // of all factors
};

// alpha / rank, or alpha / sqrt(rank).
float adapter_scale(double alpha, int64_t rank, bool rslora);

// XXH3-128 (hex) of what the adapter computes: names, shapes, scales, factors and replaced tensors,
// whatever the folder is called and whatever type the file holds them in.
std::string content_hash(const Adapter& adapter);

}  // namespace qwb
