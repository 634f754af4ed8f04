// A format: how it is recognized, opened and written. Each is a pair of files and one line in
// registry.cpp.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "formats/model_writer.h"
#include "formats/open_model.h"

namespace qwb {

// What lies where a model is looked for. Looked at once for all formats.
class Place {
 public:
  explicit Place(Path path);
  const Path& path() const { return path_; }
  bool is_file() const { return is_file_; }
  bool is_folder() const { return is_folder_; }
  bool has(const char* name) const;  // a file in the folder
  bool has_safetensors() const;      // or their index
  bool has_weights() const;          // the same, or PyTorch's
  // config.json's quantization_config (hf/packed_source.h); null where there is none, or none that
  // can be read: then whoever opens the folder says so.
  const Json& settings() const;

 private:
  Path path_;
  bool is_file_ = false, is_folder_ = false;
  mutable std::optional<Json> settings_;
};

struct ModelFormat {
  std::string name;     // "gptq"
  std::string summary;  // one line for --help
  // Reading. Both empty for a variant that another entry reads. detect throws usage where several
  // models lie there; open throws not_found, unsupported (naming what is there instead, and what to
  // do) or `failed`.
  std::function<bool(const Place& place)> detect = {};
  std::function<OpenModel(const Path& path, const Context& context)> open = {};
  // Writing; empty: never written. Throws unsupported for a model without a place in the format.
  std::function<std::unique_ptr<ModelWriter>(const OpenModel& source, const WriterOptions& options,
                                             const Context& context)>
      writer = {};
  // Of the one file that is a whole model (".gguf"); empty: a folder is.
  std::string extension = {};
  // Whether a file's first bytes are the format's: such may be replaced. Empty for folders.
  std::function<bool(const Path& file)> begins = {};
  bool typed = false;  // every tensor has a type of its own (TensorTypes)
};

}  // namespace qwb
