#include "lib/jobs/choose.h"

#include <cstdlib>
#include <optional>
#include <system_error>
#include <vector>

#include "formats/hf/checkpoint.h"
#include "formats/qwb/artifact.h"
#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/base/executable.h"
#include "lib/jobs/sources.h"

namespace qwb {
namespace {

constexpr const char* kAdvice =
    "name the folder of a Hugging Face checkpoint (config.json, *.safetensors, tokenizer.json) or "
    "a .gguf "
    "file, also by QWB_MODEL; `qwb-pull REPO` gets one from the Hub";

bool lies_in(const Path& path, const Path& folder) {
  const Path relative = path.lexically_relative(folder);
  return !relative.empty() && *relative.begin() != "..";
}

// Where demo files may be, best first.
std::vector<Path> demo_folders() {
  std::vector<Path> folders;
  const Path program = executable_path();
  folders.push_back((program.parent_path() / QWB_DATA_FROM_BIN / "demo").lexically_normal());
  std::error_code ignored;
  const Path build = std::filesystem::weakly_canonical(QWB_BUILD_FOLDER, ignored);
  if (!ignored && lies_in(program, build))
    folders.push_back(Path(QWB_SOURCE_FOLDER) / "recipes" / "demo");
  return folders;
}

}  // namespace

Path demo_path(const std::string& name) {
  std::string tried;
  for (const Path& folder : demo_folders()) {
    std::error_code ignored;
    if (std::filesystem::exists(folder / name, ignored)) return folder / name;
    tried += (tried.empty() ? "" : ", ") + (folder / name).string();
  }
  throw Error(ErrorKind::not_found, "the demo is not installed (looked for " + tried + ")", {},
              kAdvice);
}

void require_model_folder(const Path& folder) {
  if (detect_model(folder)) return;
  std::error_code ignored;
  if (std::filesystem::exists(folder, ignored)) refuse_folder(folder);
  throw Error(ErrorKind::not_found, "no such model folder", folder.string(), kAdvice);
}

void require_undamaged(const Path& folder, const StopToken& stop) {
  std::vector<std::string> damaged;
  try {
    damaged = damaged_files(folder, stop);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) throw;
    throw Error(ErrorKind::verification, error.what(), folder.string(), "make the artifact again");
  }
  if (damaged.empty()) return;
  std::string names;
  for (const std::string& name : damaged) names += (names.empty() ? "" : ", ") + name;
  throw Error(ErrorKind::verification, "differ from qwb.sums: " + names, folder.string(),
              "make the artifact again");
}

void require_undamaged_if_summed(const Path& folder, const StopToken& stop) {
  std::error_code ignored;
  if (std::filesystem::exists(folder / "qwb.sums", ignored)) require_undamaged(folder, stop);
}

Path choose_model(const std::string& flag, const Context& context) {
  Path chosen = flag;
  const char* from_environment = std::getenv("QWB_MODEL");
  if (chosen.empty() && from_environment != nullptr && *from_environment != '\0') {
    chosen = from_environment;
    context.progress->note("model " + chosen.string() + " (from QWB_MODEL)");
  }
  if (chosen.empty()) {
    chosen = demo_path("llama");
    context.progress->note("model " + chosen.string() +
                           " (the demo; QWB_MODEL or the command line chooses another)");
  }
  chosen = model_folder(chosen.string(), context);
  require_model_folder(chosen);
  return chosen;
}

ChosenArtifact choose_artifact(const Context& context) {
  try {
    const Store store(Store::Options{.context = context});
    const std::optional<CacheEntry> entry = store.newest();
    // A damaged object is a miss here as everywhere.
    const std::optional<CacheObject> object = entry ? store.find(Key{entry->fields}) : std::nullopt;
    if (object) {
      const std::string note = entry->note.empty() ? "" : ": " + entry->note;
      context.progress->note("artifact " + object->data.string() + " (the newest in the cache" +
                             note + ")");
      return {object->data, object->lease};
    }
  } catch (const Error& error) {
    context.progress->note(std::string("the cache cannot be read: ") + error.what());
  }
  return {choose_model({}, context), nullptr};
}

}  // namespace qwb
