#include "formats/registry.h"

#include "formats/hf/checkpoint.h"
#include "formats/model_check.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/names.h"

// Every format, in the order in which a place is asked to be one: one line each, for the functions
// NAME_formats(), which give what one file defines.
#define QWB_FORMATS(X)  \
  X(qwb)                \
  X(gguf)               \
  X(gptq)               \
  X(awq)                \
  X(bitsandbytes)       \
  X(compressed_tensors) \
  X(fp8)                \
  X(modelopt)           \
  X(plain)

namespace qwb {

#define QWB_DECLARE_FORMATS(name) std::vector<ModelFormat> name##_formats();
QWB_FORMATS(QWB_DECLARE_FORMATS)
#undef QWB_DECLARE_FORMATS

namespace {

std::vector<ModelFormat> make_formats() {
  std::vector<ModelFormat> all;
#define QWB_ADD_FORMATS(name) \
  for (ModelFormat & format : name##_formats()) all.push_back(std::move(format));
  QWB_FORMATS(QWB_ADD_FORMATS)
#undef QWB_ADD_FORMATS
  return all;
}

std::vector<ModelFormat>& all_formats() {
  static std::vector<ModelFormat> all = make_formats();
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
    if (place.has_weights()) Checkpoint::open(folder);  // tells of the missing config.json
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
