#include "lib/evaluate/originals.h"

#include <system_error>
#include <utility>

#include "formats/registry.h"
#include "lib/base/error.h"

namespace qwb {
namespace {

Path place_of(const Path& folder) {
  std::error_code ignored;
  return std::filesystem::weakly_canonical(folder, ignored);
}

}  // namespace

Originals::Originals(Path memo_folder, const Context& context)
    : memo_folder_(std::move(memo_folder)), context_(context) {}

void Originals::consider(const std::vector<Path>& folders) {
  considered_.insert(considered_.end(), folders.begin(), folders.end());
}

std::string Originals::content_hash(const OpenModel& open) {
  std::string& hash = hashes_[place_of(open.folder)];
  if (hash.empty()) hash = open.content_hash(memo_folder_, context_);
  return hash;
}

bool Originals::holds(const Path& folder, const std::string& hash) {
  if (const auto known = hashes_.find(place_of(folder)); known != hashes_.end())
    return known->second == hash;
  try {
    const OpenModel open = open_model(folder, context_.silent());
    if (!open.manifest.is_object()) return content_hash(open) == hash;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) throw;
  }
  hashes_[place_of(folder)];  // a damaged model, or an artifact, is nobody's original
  return false;
}

std::optional<Path> Originals::of(const Subject& subject) {
  std::optional<Path> named = baseline_folder(subject);
  if (subject.source_hash.empty() || considered_.empty()) return named;
  if (named && holds(*named, subject.source_hash)) return named;
  for (const Path& folder : considered_) {
    if (holds(folder, subject.source_hash)) return folder;
  }
  return named;
}

}  // namespace qwb
