// The artifact: a quantized model as a folder in Hugging Face layout plus qwb.json and qwb.sums.
// Byte-exact page: formats/qwb.md.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/registry.h"
#include "formats/safetensors.h"
#include "formats/sharded_writer.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/codec/source.h"
#include "lib/codec/weight.h"

namespace qwb {

inline constexpr int64_t kArtifactVersion = 1;

// A module as the writer is told of it before the work.
struct NamedLayout {
  std::string name;  // checkpoint name without ".weight"
  WeightLayout layout;
};

// A module's line in qwb.json, of a known codec; its files tell types and shapes.
struct ManifestModule {
  std::string name;
  WeightShape shape;
  std::string codec;
  Json parameters;                 // numbers
  std::vector<std::string> parts;  // their names
};

struct ArtifactManifest {
  Json json;
  std::vector<ManifestModule> modules;
};

// Throws `failed` for damage, unsupported for a format version, codec or orientation that this
// build does not know.
ArtifactManifest parse_artifact_manifest(std::string_view text, const std::string& where);

// A module's entry without what was measured of it: name, codec, sizes, parameters, parts, bits,
// bytes, bpw.
Json module_entry(const std::string& name, const WeightLayout& layout);
// {weights, bytes, bpw}; bpw null without weights.
Json size_json(int64_t weights, int64_t bytes);
// Whole numbers without a fraction, so that the file reads as it was meant.
Json tidy_number(double value);

// The method of all modules of a qwb.json, "mixed" if they have several.
std::string artifact_method(const Json& manifest);

// Writes an artifact beside its target and puts it in place at the end. Modules come in any order,
// from any thread; memory is the caller's tensors and one piece of copied bytes.
class ArtifactWriter {
 public:
  // Lays out and reserves the files. `source` must be an unquantized Hugging Face checkpoint (usage
  // otherwise); every module must be one of its tensors "<name>.weight" with that size. Weights
  // beyond max_shard_bytes are split into shards of at most that many bytes.
  ArtifactWriter(const Path& target, const OpenModel& source, std::vector<NamedLayout> modules,
                 int64_t max_shard_bytes = kShardBytes, Context context = {});

  // Stores a module. The parts must be those declared. `result` goes into qwb.json: weight_error,
  // output_error, seconds, details, and method, method_version and settings where they are not the
  // manifest's (all optional).
  void put(const std::string& module, const QuantizedTensor& tensor,
           const Json& result = Json::object());

  // Stores other values in place of a tensor that is copied otherwise, of the same type and shape.
  void replace(const std::string& tensor, const TensorView& values);

  // Bytes of all tensors as they will be stored.
  int64_t tensor_bytes() const { return tensors_->tensor_bytes(); }

  // Copies everything that was not quantized, writes config.json, qwb.json and qwb.sums, and
  // commits. `manifest` holds qwb_version, isa, source, method, method_version, settings,
  // calibration, and optionally kept, seconds and peak_memory. False: the target exists and was
  // kept.
  bool finish(const Json& manifest, bool replace = false);

 private:
  struct Stored {
    NamedLayout module;
    bool done = false;
    Json record;  // its entry in qwb.json
  };
  void lay_out(int64_t max_shard_bytes);
  void copy_rest();
  Json assemble(const Json& manifest) const;

  OpenModel source_;
  Context context_;
  PendingFolder folder_;
  std::vector<Stored> modules_;
  std::map<std::string, size_t> module_index_;
  std::unique_ptr<ShardedWriter> tensors_;
  std::vector<std::string> copied_;  // source tensors stored as they are, unless replaced
  std::set<std::string> replaced_;
  std::mutex mutex_;
};

// An artifact, mapped. find() and names() give the tensors stored as in the source; quantized() the
// modules.
class Artifact : public ModelSource {
 public:
  // Checks config.json, qwb.json and every module's parts; reads no weights.
  static std::shared_ptr<const Artifact> open(const Path& folder);

  std::optional<TensorView> find(const std::string& name) const override;
  std::vector<std::string> names() const override;
  std::optional<Weight> quantized(const std::string& module) const override;
  std::vector<std::string> quantized_modules() const override;
  void release(const TensorView& view) const override { files_->release(view); }
  void prefetch(const TensorView& view) const override { files_->prefetch(view); }
  int64_t weight_bytes() const override { return files_->weight_bytes(); }
  std::vector<std::string> notes() const override { return files_->notes(); }
  // Of the tensors, config.json and the modules' codecs; timings in qwb.json do not count.
  std::string content_hash(const Path& memo_folder = {},
                           const Context& context = {}) const override;

  const Json& config() const { return files_->config(); }
  const ArtifactManifest& manifest() const { return manifest_; }

 private:
  std::shared_ptr<const Checkpoint> files_;
  ArtifactManifest manifest_;
  std::map<std::string, Weight> weights_;
  std::map<std::string, bool> parts_;  // tensor names that belong to a module's quantized form
};

// Names of files of an artifact that are missing or differ from qwb.sums. Throws not_found or
// `failed` if there is no usable qwb.sums.
std::vector<std::string> damaged_files(const Path& folder, const StopToken& stop = {});

}  // namespace qwb
