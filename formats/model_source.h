// A model on disk, in whatever format, as every reader gives it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/codec/source.h"

namespace qwb {

// A tensor as its file lists it.
struct StoredTensor {
  std::string name, type;  // as the format calls them
  Shape shape;
  int64_t bytes = 0;
  std::string file;  // its name in the folder
};

class ModelSource : public TensorSource {
 public:
  virtual int64_t weight_bytes() const = 0;  // of the files that hold the weights
  // XXH3-128 (hex) of what the model is, independent of path and packaging. Reads everything,
  // unless `memo_folder` remembers it.
  virtual std::string content_hash(const Path& memo_folder = {},
                                   const Context& context = {}) const = 0;
  // All that the files hold, in their order.
  virtual std::vector<StoredTensor> stored_tensors() const = 0;
  // File name -> text of the companion files (tokenizer.json, ...) if the format holds them inside;
  // null if they lie beside the weights.
  virtual const std::map<std::string, std::string>* companions() const { return nullptr; }
  // What was left out of the files or set right while they were read, a sentence each.
  virtual std::vector<std::string> notes() const { return {}; }
  // Whether the settings beside the weights say that this module of a block is quantized; nothing:
  // they do not tell.
  virtual std::optional<bool> announces(const std::string& /*module*/) const {
    return std::nullopt;
  }
  // The module with its codes as words of eight inputs (PackedReader::read_words); nothing: they
  // cannot be had so.
  virtual std::optional<LoadedWeight> load_words(const std::string& /*module*/) const {
    return std::nullopt;
  }
};

}  // namespace qwb
