// Formats of other libraries that live in folders of Hugging Face layout: config.json with a
// "quantization_config", and safetensors in which every quantized module has tensors of its own.
// Each is one pair of files, a page beside it with its byte layout, and one line in registry.cpp. A
// format knows how to find and read its modules and how to write them; formats/packed_source.h
// makes a model of such a folder, formats/convert.h writes one.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"
#include "lib/base/context.h"
#include "lib/base/json.h"
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

// A module as it is to be written.
struct TargetModule {
  std::string name;
  WeightLayout layout;  // of the weight that write() will be given
  enum class Role { linear, output_embedding, embedding };
  Role role = Role::linear;
  Orientation plain = Orientation::out_in;  // of the unquantized tensor in this architecture
  DType dtype = DType::bf16;                // of the unquantized model
  bool provisional =
      false;  // layout() is asked before the layout's last parameters (nested_offset) are known
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

// What was done, for files that tell it (qwb.json).
struct ConversionRecord {
  Json source;                        // name, path, revision, hash
  std::string method;                 // that made the codes, as far as it is known
  Json settings = Json::object();     // of that method
  std::vector<TargetModule> modules;  // with every parameter
  std::vector<double> errors;         // of each, relative squared, against the source
  int64_t weights = 0;                // of all tensors
  int64_t bytes = 0;                  // of all tensors as they are stored
};

class PackedFormat {
 public:
  virtual ~PackedFormat() = default;
  virtual std::string name() const = 0;     // "gptq"
  virtual std::string summary() const = 0;  // one line for --help

  // Reading. `settings` is config.json's quantization_config.
  virtual bool matches(const Json& settings) const = 0;
  // Throws unsupported, naming the key, for a setting that this build does not understand and that
  // could change what the tensors mean; `failed` for settings that contradict each other.
  virtual void check(const Json& /*settings*/) const {}
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

  // Writing. mismatch: why this weight cannot be held exactly, in words that follow the module's
  // name.
  virtual std::optional<std::string> mismatch(const TargetModule& module) const = 0;
  // The only type of scale there is; nothing: those of the grid are stored as they are.
  virtual std::optional<DType> scale_dtype() const { return std::nullopt; }
  // The tensors of a module that mismatch() accepts, by their full names.
  virtual std::vector<PartSpec> layout(const TargetModule& module) const = 0;
  // settings: what quantization_config() gave. The views live as long as the weight and the result.
  virtual PackedTensors write(const TargetModule& module, const Weight& weight,
                              const Json& settings, const Context& context) const = 0;
  // Between formats that both move words, codes of four bits stay words of eight inputs, I32 [in /
  // 8, out], GPTQ's own: that spares the rows of the grid, a second transposition. As read() and
  // write(), but the weight is an integer grid whose codes are such words, and whose groups are
  // runs of columns.
  virtual bool moves_words() const { return false; }
  virtual LoadedWeight read_words(const Checkpoint& files, const Json& settings,
                                  const PackedModule& module, const Context& context) const;
  virtual PackedTensors write_words(const TargetModule& module, const Weight& weight,
                                    const Json& settings, const Context& context) const;
  // config.json's quantization_config; null: none. plain: the linear modules and output embeddings
  // that stay as they are (without layouts). Throws unsupported if one config cannot describe all
  // modules.
  virtual Json quantization_config(const std::vector<TargetModule>& modules,
                                   const std::vector<TargetModule>& plain) const = 0;
  // Files of the format beside config.json; called when everything else is in the folder.
  virtual void finish(const Path& /*folder*/, const Json& /*settings*/,
                      const ConversionRecord& /*record*/, const Context& /*context*/) const {}
};

// Every format, in the order shown to users.
const std::vector<std::unique_ptr<PackedFormat>>& packed_formats();
// Throws usage, listing the names.
const PackedFormat& find_packed_format(std::string_view name);
// The format of that quantization_config; null if none knows it.
const PackedFormat* detect_packed_format(const Json& settings);

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
