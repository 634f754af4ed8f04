#include <algorithm>

#include "formats/qwb.h"
#include "lib/base/file_hash.h"
#include "lib/base/hash.h"
#include "lib/base/written_files.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

// The stored form of a module from its parts. A part that qwb.json lists must be there, and no
// other may be: zero points that vanished would otherwise turn an asymmetric grid into a symmetric
// one.
Weight assemble(const ModuleRecord& record, const Checkpoint& files, const std::string& where) {
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
  for (const char* part : {"codes", "scales", "zeros", "group_index", "absmax", "nested_absmax",
                           "nested_map", "blocks"}) {
    if (!parts.contains(part) && files.find(record.name + "." + part)) {
      throw Error(ErrorKind::failed, std::string("part '") + part + "' is stored but not listed",
                  place);
    }
  }
  if (record.codec == "dense") {
    if (parts.size() != 1 || !parts.contains("weight"))
      throw Error(ErrorKind::failed, "a dense module has the part 'weight'", place);
    Weight weight{record.out, record.in, record.orientation, DenseWeight{parts.at("weight")}};
    check_weight(weight, place);
    return weight;
  }
  Weight weight = weight_from_parts(record.out, record.in, record.orientation, record.codec,
                                    record.parameters, parts, place);
  int64_t bytes = 0;
  for (const auto& [name, view] : parts) bytes += static_cast<int64_t>(view.bytes.size());
  if (bytes != weight.bytes())
    throw Error(ErrorKind::failed, "has parts that its codec does not know", place);
  return weight;
}

}  // namespace

std::shared_ptr<const Artifact> Artifact::open(const Path& folder) {
  auto artifact = std::make_shared<Artifact>();
  const std::string where = (folder / "qwb.json").string();
  artifact->manifest_ = parse_artifact_manifest(read_text(where), where);
  artifact->files_ = Checkpoint::open(folder);
  for (const ModuleRecord& record : artifact->manifest_.modules) {
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
  for (const ModuleRecord& record : manifest_.modules) {
    const Json entry = {{"name", record.name},
                        {"out", record.out},
                        {"in", record.in},
                        {"codec", record.codec},
                        {"in_out", record.orientation == Orientation::in_out},
                        {"parameters", record.parameters},
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
