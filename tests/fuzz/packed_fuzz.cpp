// Any text as config.json's quantization_config and any bytes as model.safetensors (a NUL between
// them): refused with a qwb::Error, or every module can be rearranged and dequantized.
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "formats/registry.h"
#include "lib/exec/cpu/dequantize.h"

namespace {

constexpr int64_t kLargest = int64_t{1} << 22;  // values dequantized for one module

void open_and_read(const qwb::Path& folder) {
  const qwb::Place place(folder);
  if (!place.settings().is_object()) return;
  const auto& formats = qwb::model_formats();
  const auto format = std::ranges::find_if(
      formats, [&](const auto& one) { return one.detect && one.detect(place); });
  const qwb::OpenModel open = format->open(folder, {});
  const qwb::TensorSource& source = *open.source;
  for (const std::string& module : source.quantized_modules()) {
    const qwb::WeightLayout form = source.quantized_layout(module);
    if (form.bytes() > kLargest || form.out > kLargest / form.in) continue;
    const qwb::LoadedWeight weight = source.load_quantized(module);
    if (weight.weight.specs() != form.specs()) std::abort();
    qwb::FloatBuffer values(weight.weight.out * weight.weight.in);
    qwb::dequantize(weight.weight, values.data());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const qwb::Path folder = [] {
    const qwb::Path path =
        std::filesystem::temp_directory_path() / ("packed_fuzz" + std::to_string(::getpid()));
    std::filesystem::create_directories(path);
    return path;
  }();
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const size_t split = all.find('\0');
  if (split == std::string_view::npos) return 0;
  {
    const std::string_view tensors = all.substr(split + 1);
    std::ofstream file(folder / "model.safetensors", std::ios::binary | std::ios::trunc);
    file.write(tensors.data(), static_cast<std::streamsize>(tensors.size()));
  }
  try {
    qwb::parse_json(all.substr(0, split), "fuzz");
    std::ofstream(folder / "config.json", std::ios::trunc)
        << "{\"quantization_config\": " << all.substr(0, split) << "}";
    open_and_read(folder);
  } catch (const qwb::Error&) {
  }
  return 0;
}
