#include "formats/registry.h"

#include "formats/gguf/format.h"
#include "formats/hf/awq_gemm.h"
#include "formats/hf/bitsandbytes.h"
#include "formats/hf/checkpoint.h"
#include "formats/hf/compressed_tensors.h"
#include "formats/hf/gptq.h"
#include "formats/hf/plain.h"
#include "formats/model_check.h"
#include "formats/qwb/format.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/names.h"

namespace qwb {
namespace {

std::vector<ModelFormat>& all_formats() {
  static std::vector<ModelFormat> all = {
      qwb_format(),
      gguf_format(),
      gptq_format(GptqVersion::automatic),
      gptq_format(GptqVersion::v1),
      gptq_format(GptqVersion::v2),
      awq_format(),
      bitsandbytes_format(),
      compressed_tensors_format(CompressedLayout::packed),
      compressed_tensors_format(CompressedLayout::bytes),
      plain_format(),
  };
  return all;
}

const ModelFormat* detected(const Place& place) {
  for (const ModelFormat& format : model_formats()) {
    if (format.detect && format.detect(place)) return &format;
  }
  return nullptr;
}

}  // namespace

const std::vector<ModelFormat>& model_formats() {
  return all_formats();
}

void add_format(ModelFormat format) {
  all_formats().insert(all_formats().begin(), std::move(format));
}

const ModelFormat& find_format(std::string_view name) {
  std::string names;
  for (const ModelFormat& format : model_formats()) {
    if (!format.writer) continue;
    if (same_name(format.name, name)) return format;
    names += (names.empty() ? "" : ", ") + format.name;
  }
  throw Error(ErrorKind::usage, "there is no format '" + std::string(name) + "'", {},
              "the formats are " + names);
}

std::string OpenModel::content_hash(const Path& memo_folder, const Context& context) const {
  const std::string hash = source->content_hash(memo_folder, context);
  return untied ? Hasher().field("qwb-untied-1").field(hash).hex() : hash;
}

std::string OpenModel::config_name() const {
  return (one_file ? folder : folder / "config.json").string();
}

bool detect_model(const Path& folder) {
  return detected(Place(folder)) != nullptr;
}

OpenModel open_model(const Path& folder, const Context& context) {
  const Place place(folder);
  const ModelFormat* format = detected(place);
  if (format == nullptr) {
    if (place.has_safetensors()) Checkpoint::open(folder);  // tells of the missing config.json
    refuse_folder(folder);
  }
  OpenModel open = format->open(folder, context);
  std::vector<std::string> notes = open.source->notes();
  const std::vector<std::string> checked = check_model(open);
  notes.insert(notes.end(), checked.begin(), checked.end());
  for (const std::string& note : notes) context.progress->note(folder.string() + ": " + note);
  return open;
}

}  // namespace qwb
