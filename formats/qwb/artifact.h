// The artifact: a quantized model as a folder in Hugging Face layout plus qwb.json and qwb.sums.
// Byte-exact page: formats/qwb/qwb.md.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/hf/checkpoint.h"
#include "formats/model_writer.h"
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

class FolderWriter;

// Writes an artifact of an unquantized model while its modules are quantized: the writer of the
// format (model_writer.h), filled in any order, from any thread. Memory is the caller's tensors and
// one piece of copied bytes.
class ArtifactWriter {
 public:
  // Lays out and reserves the files. `source` must be an unquantized checkpoint (usage otherwise);
  // every module must be one of its tensors "<name>.weight" with that size. Weights beyond
  // max_shard_bytes are split into shards of at most that many bytes.
  ArtifactWriter(const Path& target, const OpenModel& source, std::vector<NamedLayout> modules,
                 int64_t max_shard_bytes = kShardBytes, Context context = {}, bool replace = false);
  ~ArtifactWriter();

  // Stores a module. The parts must be those declared. `result` goes into qwb.json
  // (Provenance::results).
  void put(const std::string& module, const QuantizedTensor& tensor,
           const Json& result = Json::object());

  // Stores other values in place of a tensor that is copied otherwise, of the same type and shape.
  void replace(const std::string& tensor, const TensorView& values);

  // Copies everything that was not quantized, writes config.json, qwb.json and qwb.sums, and
  // commits. `provenance` without results. False: the target exists and was kept.
  bool finish(Provenance provenance);

 private:
  OpenModel source_;
  std::unique_ptr<FolderWriter> writer_;
  std::vector<ConvertedModule> modules_;
  std::map<std::string, size_t> index_;  // module -> place in modules_
  std::vector<std::string> copied_;      // source tensors stored as they are, unless replaced
  std::mutex mutex_;
  std::set<std::string> replaced_;
  std::map<std::string, Json> results_;  // of the modules that were put
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
  std::vector<StoredTensor> stored_tensors() const override { return files_->stored_tensors(); }
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
