// GGUF as a format: one file that is a whole model (formats/gguf/gguf.md).
#include <array>
#include <fstream>

#include "formats/gguf/model.h"
#include "formats/gguf/model_writer.h"
#include "formats/model_format.h"

namespace qwb {
namespace {

constexpr char kGgufName[] = "gguf";

// A folder with safetensors is a checkpoint, even if it has a GGUF file too.
bool detect_gguf(const Place& place) {
  // By its first bytes: the blobs of Ollama have no suffix.
  if (place.is_file()) return is_gguf_file(place.path());
  if (place.has_safetensors()) return false;
  return place.is_folder() && gguf_in_folder(place.path()).has_value();
}

OpenModel open_gguf(const Path& path, const Context& context) {
  const auto model = GgufModel::open(path, context.threads);
  OpenModel open{model, model->config(), path, kGgufName, nullptr, model->weight_bytes()};
  open.one_file = true;
  return open;
}

bool begins_as_gguf(const Path& file) {
  std::array<char, 4> magic{};
  std::ifstream in(file, std::ios::binary);
  return in.read(magic.data(), magic.size()) &&
         std::string_view(magic.data(), magic.size()) == "GGUF";
}

}  // namespace

std::vector<ModelFormat> gguf_formats() {
  return {{.name = kGgufName,
           .summary = "one file for llama.cpp and its kin, with tokenizer and chat template",
           .detect = detect_gguf,
           .open = open_gguf,
           .writer =
               [](const OpenModel& source, const WriterOptions& options, const Context& context) {
                 return std::make_unique<GgufModelWriter>(source, options, context);
               },
           .extension = ".gguf",
           .begins = begins_as_gguf,
           .typed = true}};
}

}  // namespace qwb
