#include "formats/model_format.h"

#include "formats/hf/checkpoint.h"
#include "formats/hf/packed_source.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

Json settings_of_place(const Place& place) {
  if (!place.has("config.json")) return nullptr;
  try {
    const Path file = place.path() / "config.json";
    return announced_settings(place.path(), parse_json(read_text(file, 64 << 20), file.string()));
  } catch (const Error&) {
    return nullptr;
  }
}

}  // namespace

Place::Place(Path path) : path_(std::move(path)) {
  std::error_code ignored;
  is_file_ = fs::is_regular_file(path_, ignored);
  is_folder_ = fs::is_directory(path_, ignored);
}

bool Place::has(const char* name) const {
  std::error_code ignored;
  return fs::is_regular_file(path_ / name, ignored);
}

bool Place::has_safetensors() const {
  return has("model.safetensors") || has("model.safetensors.index.json");
}

bool Place::has_weights() const {
  return weight_names(path_) != nullptr;
}

const Json& Place::settings() const {
  if (!settings_) settings_ = settings_of_place(*this);
  return *settings_;
}

std::string how_name(How how) {
  switch (how) {
    case How::exact:
      return "exact";
    case How::rounded:
      return "scales rounded";
    case How::requantized:
      return "requantized";
    case How::plain:
      return "dequantized";
  }
  return {};
}

}  // namespace qwb
