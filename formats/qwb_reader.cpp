#include <algorithm>
#include <sstream>

#include "formats/qwb.h"
#include "lib/base/file_hash.h"
#include "lib/base/hash.h"
#include "lib/base/interrupt.h"
#include "lib/base/parallel.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

constexpr char kSums[] = "qwb.sums";

// The stored form of a module from its parts. A part that qwb.json lists must be there, and no other may be:
// zero points that vanished would otherwise turn an asymmetric grid into a symmetric one.
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
  for (const char* part :
       {"codes", "scales", "zeros", "group_index", "absmax", "nested_absmax", "nested_map", "blocks"}) {
    if (!parts.contains(part) && files.find(record.name + "." + part)) {
      throw Error(ErrorKind::failed, std::string("part '") + part + "' is stored but not listed", place);
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

// Those of folders within too, as "folder/name".
std::vector<std::string> regular_files(const Path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).generic_string();
    if (entry.is_regular_file() && name != kSums) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// A name that stays inside the folder.
bool is_inner_name(const std::string& name) {
  const Path path(name);
  return !path.is_absolute() && path.lexically_normal() == path &&
         std::none_of(path.begin(), path.end(), [](const Path& part) { return part == ".."; });
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
      throw Error(ErrorKind::failed, "module '" + record.name + "' is stored twice, quantized and plain",
                  where);
    }
    for (const std::string& part : record.parts) artifact->parts_.emplace(record.name + "." + part, true);
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

std::string Artifact::content_hash(const Path& memo_folder) const {
  Hasher hasher;
  hasher.field("qwb-artifact-1").field(files_->content_hash(memo_folder));
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

std::string checksum_text(const Path& folder) {
  const auto names = regular_files(folder);
  std::vector<std::string> hashes(names.size());
  parallel_for(static_cast<int64_t>(names.size()), [&](int64_t i) {
    hashes[static_cast<size_t>(i)] = written_file_hash(folder / names[static_cast<size_t>(i)]);
  });
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) text += hashes[i] + "  " + names[i] + "\n";
  return text;
}

std::vector<std::string> damaged_files(const Path& folder) {
  std::istringstream lines(read_text(folder / kSums, 1 << 26));
  std::map<std::string, std::string> expected;
  for (std::string line; std::getline(lines, line);) {
    if (line.size() < 35 || line.substr(32, 2) != "  " || !is_inner_name(line.substr(34))) {
      throw Error(ErrorKind::failed, "'" + line.substr(0, 80) + "' is not a checksum line",
                  (folder / kSums).string());
    }
    expected.emplace(line.substr(34), line.substr(0, 32));
  }
  if (expected.empty()) throw Error(ErrorKind::failed, "is empty", (folder / kSums).string());
  std::vector<std::string> damaged;
  for (const auto& [name, hash] : expected) {
    std::error_code ignored;
    if (!fs::is_regular_file(folder / name, ignored) || file_hash(folder / name) != hash)
      damaged.push_back(name);
  }
  return damaged;
}

}  // namespace qwb
