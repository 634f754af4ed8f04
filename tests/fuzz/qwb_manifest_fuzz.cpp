// Any text as qwb.json, and any text as a shard index: refused with a qwb::Error, or what it says
// can be asked of the codecs without overflow.
#include <cstdlib>

#include "formats/qwb/artifact.h"
#include "lib/codec/registry.h"

namespace {

void fuzz_manifest(std::string_view text) {
  const auto manifest = qwb::parse_artifact_manifest(text, "fuzz");
  for (const auto& module : manifest.modules) {
    std::map<std::string, qwb::TensorView> parts;
    for (const std::string& part : module.parts) parts.emplace(part, qwb::TensorView{});
    try {
      qwb::read_weight(module.shape, module.codec, module.parameters, parts, "fuzz");
      std::abort();  // no codec fits parts without bytes
    } catch (const qwb::Error&) {
      continue;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    fuzz_manifest(text);
  } catch (const qwb::Error&) {
  }
  try {
    for (const auto& [tensor, file] : qwb::parse_shard_index(text, "fuzz")) {
      if (file.find('/') != std::string::npos) std::abort();
    }
  } catch (const qwb::Error&) {
  }
  return 0;
}
