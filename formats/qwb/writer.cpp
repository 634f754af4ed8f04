#include <algorithm>

#include "formats/hf/folder_writer.h"
#include "formats/qwb/artifact.h"
#include "formats/qwb/format.h"

namespace qwb {
namespace {

void check_matches(const NamedLayout& module, const QuantizedTensor& tensor) {
  const WeightLayout& layout = module.layout;
  const std::vector<PartSpec> specs = layout.specs();
  bool same = static_cast<const WeightShape&>(tensor) == layout &&
              tensor.codec() == layout.codec() && tensor.parts.size() == specs.size();
  for (const PartSpec& spec : specs) {
    const auto it = tensor.parts.find(spec.name);
    same = same && it != tensor.parts.end() && it->second.dtype() == spec.dtype &&
           it->second.shape() == spec.shape;
  }
  if (!same)
    throw Error(ErrorKind::usage, "the tensor is not what was declared",
                "module '" + module.name + "'");
}

void require_weight(const OpenModel& source, const NamedLayout& module) {
  const auto weight = source.source->describe(module.name + ".weight");
  const Shape straight = {module.layout.out, module.layout.in};
  const Shape turned = {module.layout.in, module.layout.out};
  if (weight && (weight->shape == straight || weight->shape == turned)) return;
  throw Error(ErrorKind::usage,
              "no weight " + shape_text(straight) + " of module '" + module.name + "'",
              source.folder.string());
}

}  // namespace

ArtifactWriter::ArtifactWriter(const Path& target, const OpenModel& source,
                               std::vector<NamedLayout> modules, int64_t max_shard_bytes,
                               Context context, bool replace)
    : source_(source) {
  if (!source.manifest.is_null() || !source.source->quantized_modules().empty()) {
    throw Error(ErrorKind::usage, "is already quantized", source.folder.string(),
                "quantize the model it was made from");
  }
  std::set<std::string> gone;
  for (NamedLayout& module : modules) {
    require_weight(source, module);
    if (!index_.emplace(module.name, modules_.size()).second)
      throw Error(ErrorKind::usage, "module '" + module.name + "' is listed twice");
    gone.insert(module.name + ".weight");
    modules_.push_back({.target = {.name = module.name, .layout = std::move(module.layout)},
                        .how = How::requantized});
  }
  for (const std::string& name : source.source->names()) {
    if (!gone.contains(name)) copied_.push_back(name);
  }
  WriterOptions options;
  options.max_shard_bytes = max_shard_bytes;
  options.replace = replace;
  writer_ = std::make_unique<FolderWriter>(source, qwb_packing(), options, std::move(context));
  writer_->lay_out(modules_, {}, copied_);
  writer_->begin(target);
}

ArtifactWriter::~ArtifactWriter() = default;

void ArtifactWriter::put(const std::string& module, const QuantizedTensor& tensor,
                         const Json& result) {
  const auto it = index_.find(module);
  if (it == index_.end()) throw Error(ErrorKind::usage, "module '" + module + "' was not declared");
  const ConvertedModule& declared = modules_[it->second];
  check_matches({module, declared.target.layout}, tensor);
  writer_->put(declared, tensor.view(), false).write();
  const std::lock_guard lock(mutex_);
  results_.insert_or_assign(module, result);
}

void ArtifactWriter::replace(const std::string& tensor, const TensorView& values) {
  if (std::find(copied_.begin(), copied_.end(), tensor) == copied_.end())
    throw Error(ErrorKind::usage, "there is no tensor '" + tensor + "' to replace");
  const TensorView original = *source_.source->find(tensor);
  if (values.dtype != original.dtype || values.shape != original.shape)
    throw Error(ErrorKind::usage, "'" + tensor + "' would get another type or shape");
  writer_->put_values(tensor, values);
  const std::lock_guard lock(mutex_);
  replaced_.insert(tensor);
}

bool ArtifactWriter::finish(Provenance provenance) {
  for (const ConvertedModule& module : modules_) {
    if (!results_.contains(module.target.name))
      throw Error(ErrorKind::usage, "module '" + module.target.name + "' was never stored");
  }
  for (const std::string& name : copied_) {
    if (!replaced_.contains(name)) writer_->put_tensor(name);
  }
  provenance.made_here = true;
  provenance.results = std::move(results_);
  return writer_->finish(provenance);
}

}  // namespace qwb
