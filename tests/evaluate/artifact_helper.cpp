#include "tests/evaluate/artifact_helper.h"

#include <unistd.h>

#include <fstream>

#include "formats/qwb/artifact.h"
#include "formats/registry.h"
#include "lib/model/model.h"
#include "lib/quantize/pipeline.h"

namespace qwb::testing {
namespace {

struct Sink : ModuleSink {
  explicit Sink(ArtifactWriter& artifact) : writer(artifact) {}
  void put(const PlannedModule& module, const QuantizedTensor& tensor,
           const ModuleReport& /*report*/) override {
    writer.put(module.info.name, tensor);
  }
  void replace(const std::string& tensor, const TensorView& values) override {
    writer.replace(tensor, values);
  }
  ArtifactWriter& writer;
};

}  // namespace

Scratch::Scratch(const std::string& name)
    : path_(std::filesystem::temp_directory_path() /
            ("qwb_" + name + "_" + std::to_string(getpid()))) {
  std::filesystem::remove_all(path_);
  std::filesystem::create_directories(path_);
}

Scratch::~Scratch() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Path demo(const std::string& name) {
  return Path(QWB_SOURCE_DIR) / "recipes/demo" / name;
}

void make_artifact(const Path& folder, const std::string& method, const Path& target,
                   const std::string& source) {
  make_artifact(folder, find_method(method), target, source);
}

void make_artifact(const Path& folder, const Method& method, const Path& target,
                   const std::string& source) {
  const OpenModel open = open_model(folder);
  const auto model = Model::load(open.source, open.config, folder.string());
  Json origin = Json::object();
  if (!source.empty()) origin = {{"path", source}, {"hash", open.content_hash({})}};
  write_quantized(open, *model, method, Json::object(), nullptr, target, origin);
}

size_t write_quantized(const OpenModel& open, const Model& model, const Method& method,
                       const Json& given, const CalibrationSet* windows, const Path& target,
                       const Json& origin) {
  const Settings settings = resolve_settings(method, given);
  const Plan plan = plan_modules(model, method, given);
  std::vector<NamedLayout> modules;
  for (const PlannedModule& m : plan.modules) modules.push_back({m.info.name, m.layout});
  ArtifactWriter writer(target, open, modules);
  Sink sink(writer);
  quantize_model(model, plan, plan.needs_calibration() ? windows : nullptr, sink,
                 Context{model.executor().threads()});
  writer.finish({.source = origin,
                 .method = method.name(),
                 .method_version = method.version(),
                 .settings = settings,
                 .isa = "any"});
  return modules.size();
}

void flip_a_bit(const Path& file) {
  std::filesystem::permissions(file, std::filesystem::perms::owner_all);
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekg(-1000, std::ios::end);
  const char byte = static_cast<char>(bytes.peek() ^ 4);
  bytes.seekp(-1000, std::ios::end);
  bytes.put(byte);
}

}  // namespace qwb::testing
