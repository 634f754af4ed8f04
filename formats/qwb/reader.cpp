#include <algorithm>

#include "formats/model_check.h"
#include "formats/qwb/artifact.h"
#include "lib/base/file_hash.h"
#include "lib/base/hash.h"
#include "lib/base/written_files.h"
#include "lib/codec/registry.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

// The stored form of a module from its parts. A part that qwb.json lists must be there, and no
// other may be: zero points that vanished would otherwise turn an asymmetric grid into a symmetric
// one.
Weight assemble(const ManifestModule& record, const Checkpoint& files, const std::string& where) {
  std::map<std::string, TensorView> parts;
  for (const std::string& part : record.parts) {
    const auto view = files.find(record.name + "." + part);
    if (!view) {
      throw Error(ErrorKind::failed, "tensor '" + record.name + "." + part + "' is missing", where,
                  "the artifact is damaged; make it again");
    }
    if (view->empty())
      throw Error(ErrorKind::failed, "tensor '" + record.name + "." + part + "' is empty", where);
    parts.emplace(part, *view);
  }
  const std::string place = where + ": module '" + record.name + "'";
  for (const Codec& codec : codecs()) {
    for (const std::string& part : codec.parts) {
      if (part == "weight" || parts.contains(part) || !files.find(record.name + "." + part))
        continue;
      throw Error(ErrorKind::failed, "part '" + part + "' is stored but not listed", place);
    }
  }
  return read_weight(record.shape, record.codec, record.parameters, parts, place);
}

}  // namespace

std::shared_ptr<const Artifact> Artifact::open(const Path& folder) {
  auto artifact = std::make_shared<Artifact>();
  const std::string where = (folder / "qwb.json").string();
  artifact->manifest_ = parse_artifact_manifest(read_text(where), where);
  artifact->files_ = open_checkpoint(folder);
  for (const ManifestModule& record : artifact->manifest_.modules) {
    const Weight weight = assemble(record, *artifact->files_, where);
    if (weight.is_dense()) continue;  // "<module>.weight" is an ordinary tensor
    if (artifact->files_->find(record.name + ".weight")) {
      throw Error(ErrorKind::failed,
                  "module '" + record.name + "' is stored twice, quantized and plain", where);
    }
    for (const std::string& part : record.parts)
      artifact->parts_.emplace(record.name + "." + part, true);
    artifact->weights_.emplace(record.name, weight);
  }
  return artifact;
}

std::optional<TensorView> Artifact::find(const std::string& name) const {
  return parts_.contains(name) ? std::nullopt : files_->find(name);
}

std::vector<std::string> Artifact::names() const {
  auto result = files_->names();
  std::erase_if(result, [&](const std::string& name) { return parts_.contains(name); });
  return result;
}

std::optional<Weight> Artifact::quantized(const std::string& module) const {
  const auto it = weights_.find(module);
  if (it == weights_.end()) return std::nullopt;
  return it->second;
}

std::vector<std::string> Artifact::quantized_modules() const {
  std::vector<std::string> result;
  for (const auto& [name, weight] : weights_) result.push_back(name);
  return result;
}

std::string Artifact::content_hash(const Path& memo_folder, const Context& context) const {
  Hasher hasher;
  hasher.field("qwb-artifact-1").field(files_->content_hash(memo_folder, context));
  for (const ManifestModule& record : manifest_.modules) {
    const Json entry = {{"name", record.name},
                        {"out", record.shape.out},
                        {"in", record.shape.in},
                        {"codec", record.codec},
                        {"in_out", record.shape.orientation == Orientation::in_out},
                        {"parameters", record.parameters.get<std::map<std::string, double>>()},
                        {"parts", record.parts}};
    hasher.field(json_canonical(entry));
  }
  return hasher.hex();
}

std::vector<std::string> damaged_files(const Path& folder, const StopToken& stop) {
  const auto expected = read_written_files(folder / kArtifactSums);
  std::vector<std::string> damaged;
  for (const auto& [name, hash] : expected) {
    std::error_code ignored;
    if (!fs::is_regular_file(folder / name, ignored) || file_hash(folder / name, stop) != hash)
      damaged.push_back(name);
  }
  return damaged;
}

}  // namespace qwb
