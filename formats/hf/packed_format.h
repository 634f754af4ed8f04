// Formats of other libraries that live in folders of Hugging Face layout: config.json with a
// "quantization_config", and safetensors in which every quantized module has tensors of its own.
// Each is one pair of files, a page beside it with its byte layout, and one line in registry.cpp. A
// PackedReader knows how to find and read a format's modules (packed_source.h makes a model of such
// a folder), a PackedWriter how they are stored (folder_writer.h writes the rest of the folder).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/hf/checkpoint.h"
#include "formats/model_format.h"
#include "formats/model_writer.h"
#include "lib/base/context.h"
#include "lib/base/json.h"
#include "lib/base/written_files.h"
#include "lib/codec/source.h"
#include "lib/codec/weight.h"

namespace qwb {

// A module as it was found in a folder.
struct PackedModule {
  std::string name;                  // without ".weight"
  WeightLayout layout;               // of what read() gives
  std::vector<std::string> tensors;  // all that belong to it and mean nothing without it
  std::string note = {};  // what was set right while it was read; the same text for the same thing
};

// `settings`, everywhere: config.json's quantization_config.
class PackedReader {
 public:
  virtual ~PackedReader() = default;
  virtual std::string name() const = 0;  // "gptq"
  virtual bool matches(const Json& settings) const = 0;
  // Throws unsupported, naming the key, for a setting that this build does not understand and that
  // could change what the tensors mean; `failed` for settings that contradict each other.
  virtual void check(const Json& settings) const = 0;
  // Whether the settings say that this module of a block is quantized; nothing: they do not tell.
  virtual std::optional<bool> quantizes(const Json& /*settings*/,
                                        const std::string& /*module*/) const {
    return std::nullopt;
  }
  // What a reader of these settings should know, a sentence each.
  virtual std::vector<std::string> notes(const Json& /*settings*/) const { return {}; }
  // In the order of names. Throws `failed` for tensors that do not fit together, unsupported for
  // what this build cannot read; both name the module.
  virtual std::vector<PackedModule> modules(const Checkpoint& files, const Json& settings,
                                            const Context& context) const = 0;
  // Checked. The context: of the loops over the weight.
  virtual LoadedWeight read(const Checkpoint& files, const Json& settings,
                            const PackedModule& module, const Context& context) const = 0;
  // Between formats that both move words, codes of four bits stay words of eight inputs, I32 [in /
  // 8, out], GPTQ's own: that spares the rows of the grid, a second transposition. As read(), but
  // the weight is an integer grid whose codes are such words, and whose groups are runs of columns.
  virtual bool moves_words() const { return false; }
  virtual LoadedWeight read_words(const Checkpoint& files, const Json& settings,
                                  const PackedModule& module, const Context& context) const;
};

// The tensors of a module that are to be stored, by their full names.
struct PackedTensors {
  std::map<std::string, TensorView> views;
  std::vector<Tensor> owned;

  void add(const std::string& name, Tensor tensor) {
    owned.push_back(std::move(tensor));
    views[name] = owned.back().view();
  }
};

class PackedWriter {
 public:
  virtual ~PackedWriter() = default;
  // ModelWriter's.
  virtual ModelWriter::Matrices matrices() const { return ModelWriter::Matrices::beside; }
  virtual Fit fit(const TargetModule& module, const WeightReader& read) const = 0;
  virtual std::optional<DType> scale_dtype() const { return std::nullopt; }
  // The tensors of a module that fits, by their full names.
  virtual std::vector<PartSpec> layout(const TargetModule& module) const = 0;
  // settings: what quantization_config() gave. The views live as long as the weight and the result.
  virtual PackedTensors write(const TargetModule& module, const Weight& weight,
                              const Json& settings, const Context& context) const = 0;
  // PackedReader's words.
  virtual bool moves_words() const { return false; }
  virtual PackedTensors write_words(const TargetModule& module, const Weight& weight,
                                    const Json& settings, const Context& context) const;
  // config.json's quantization_config; null: none. plain: the linear modules and output embeddings
  // that stay as they are (without layouts). Throws unsupported if one config cannot describe all
  // modules.
  virtual Json quantization_config(const std::vector<TargetModule>& modules,
                                   const std::vector<TargetModule>& plain) const = 0;
  // Files of the format beside config.json. Called when everything else is in the folder.
  struct Written {
    Path folder;
    Json settings;                           // config.json's quantization_config
    std::vector<TargetModule> modules = {};  // that are packed, with every parameter
    int64_t weights = 0, bytes = 0;          // of all tensors, bytes as they are stored
  };
  // The list of all files that are written (written_files.h).
  virtual std::string list_of_files() const { return kWrittenFiles; }
  virtual void finish(const Written& /*written*/, const Provenance& /*provenance*/) const {}
  // What config.json tells of a method that was applied here.
  virtual void tell(const Provenance& /*provenance*/, Json& /*settings*/) const {}
};

// Formats that share grids ask this last: whether scales fit the only type there is, as they are
// or (How::rounded) rounded. Without a weight to read, other scales count as rounded.
Fit fit_scales(const TargetModule& module, DType type, const WeightReader& read);

// The registry entry. reader null: a variant that another entry reads; writer null: never written.
ModelFormat packed_format(std::string name, std::string summary,
                          std::shared_ptr<const PackedReader> reader,
                          std::shared_ptr<const PackedWriter> writer);

// What readers share. The tensor of that name with that type and number of dimensions; throws
// `failed`.
TensorView packed_tensor_of(const Checkpoint& files, const std::string& name, DType type,
                            size_t dimensions);
// The same with that shape.
TensorView packed_tensor(const Checkpoint& files, const std::string& name, DType type,
                         const Shape& shape);
// The tensor of floats (F16, BF16 or F32) with that shape.
TensorView packed_scales(const Checkpoint& files, const std::string& name, const Shape& shape);

}  // namespace qwb
