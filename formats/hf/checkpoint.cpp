#include "formats/hf/checkpoint.h"

#include <algorithm>

#include "lib/base/file_kind.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

constexpr char kSingle[] = "model.safetensors";

constexpr WeightNames kNames[] = {
    {kSingle, "model.safetensors.index.json", "model-", ".safetensors", open_safetensors},
    {"pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-", ".bin",
     open_torch_file}};

bool starts_with(const std::string& text, std::string_view prefix) {
  return text.rfind(prefix, 0) == 0;
}
bool ends_with(const std::string& text, std::string_view suffix) {
  return text.size() >= suffix.size() &&
         text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

std::vector<std::string> file_names(const Path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) throw system_error("cannot list", folder.string(), error.value());
  std::sort(names.begin(), names.end());
  return names;
}

// Takes weight_map out of the index by events: an ordinary tree of ordered keys would search
// linearly at every insertion.
class IndexEvents : public nlohmann::json_sax<Json> {
 public:
  IndexEvents(std::map<std::string, std::string>& map, const std::string& where)
      : map_(map), where_(where) {}
  bool start_object(size_t) override {
    if (depth_ == 1 && key_ == "weight_map") {
      if (found_) bad("weight_map appears twice");
      inside_ = found_ = true;
    } else if (inside_)
      bad("weight_map must map names to file names");
    return deeper();
  }
  bool end_object() override {
    --depth_;
    if (depth_ <= 1) inside_ = false;
    return true;
  }
  bool start_array(size_t) override { return inside_ ? value() : deeper(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(std::string& text) override {
    key_ = text;
    return true;
  }
  bool string(std::string& text) override {
    if (!inside_) return value();
    if (!map_.emplace(key_, text).second) bad("tensor '" + key_ + "' appears twice");
    return true;
  }
  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(int64_t) override { return value(); }
  bool number_unsigned(uint64_t) override { return value(); }
  bool number_float(double, const std::string&) override { return value(); }
  bool binary(binary_t&) override { return value(); }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& error) override {
    bad(json_problem({}, 0, error.what()));
  }
  bool found() const { return found_; }

 private:
  [[noreturn]] void bad(const std::string& what) const {
    throw Error(ErrorKind::failed, what, where_,
                "the file is damaged or incomplete; fetch it again");
  }
  bool value() const {
    if (inside_ || depth_ == 0) bad("weight_map must map names to file names");
    return true;
  }
  bool deeper() {
    if (++depth_ > 256) bad("JSON is nested too deeply");
    return true;
  }
  std::map<std::string, std::string>& map_;
  const std::string& where_;
  int depth_ = 0;
  bool inside_ = false;
  bool found_ = false;
  std::string key_;
};

void check_shard_name(const std::string& file, const std::string& where) {
  if (file.empty() || file == "." || file == ".." ||
      file.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
    throw Error(ErrorKind::failed, "'" + file + "' is not a plain file name", where,
                "the index is damaged or hostile");
  }
}

[[noreturn]] void refuse_file(const Path& file) {
  const MappedFile mapped = MappedFile::open(file);
  const std::string name = file.string();
  if (file.extension() == ".safetensors" || file.extension() == ".bin") {
    throw Error(ErrorKind::unsupported, "is a file", name,
                "give the folder that holds it with config.json: " + file.parent_path().string());
  }
  if (const auto kind = foreign_kind(mapped.bytes()))
    throw Error(ErrorKind::unsupported, kind->what, name, kind->advice);
  throw Error(ErrorKind::unsupported, "is a file and no GGUF", name,
              "give the folder that holds config.json and the safetensors files");
}

bool holds(const std::vector<std::string>& names, std::string_view name) {
  return std::binary_search(names.begin(), names.end(), name);
}

// What the adapter was trained on, if its settings tell.
std::string adapter_base(const Path& folder) {
  try {
    const Path file = folder / "adapter_config.json";
    return json_string(parse_json(read_text(file, 1 << 20), file.string()),
                       "base_model_name_or_path", file.string(), "");
  } catch (const Error&) {
    return {};
  }
}

void refuse_adapter(const Path& folder, const std::vector<std::string>& names) {
  for (const char* file :
       {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"}) {
    if (!holds(names, file)) continue;
    const std::string base = adapter_base(folder);
    throw Error(ErrorKind::unsupported,
                "this is a LoRA adapter (" + std::string(file) + "), not a model", folder.string(),
                "merge it into its base model" + (base.empty() ? "" : " " + base) +
                    " (peft: merge_and_unload, save_pretrained) and give that folder");
  }
}

// What transformers would take besides model.safetensors, or instead.
void refuse_weights_elsewhere(const Path& folder, const Json& config) {
  if (json_has(config, "transformers_weights") && config["transformers_weights"] != kSingle) {
    throw Error(ErrorKind::unsupported,
                "'transformers_weights' names another file than model.safetensors, which is not "
                "supported",
                (folder / "config.json").string(),
                "rename that file to model.safetensors and take the key out");
  }
  std::error_code ignored;
  if (fs::exists(folder / "adapter_config.json", ignored)) {
    throw Error(ErrorKind::unsupported, "a LoRA adapter lies beside the model", folder.string(),
                "move adapter_config.json and its weights elsewhere to use the model alone");
  }
}

}  // namespace

std::map<std::string, std::string> parse_shard_index(std::string_view text,
                                                     const std::string& where) {
  if (text.find('\0') != std::string_view::npos)
    throw Error(ErrorKind::failed, "not valid JSON: a NUL byte", where);
  std::map<std::string, std::string> map;
  IndexEvents events(map, where);
  Json::sax_parse(text.begin(), text.end(), &events);
  if (!events.found())
    throw Error(ErrorKind::failed, "no weight_map", where, "the index is damaged");
  for (const auto& [tensor, file] : map) check_shard_name(file, where);
  return map;
}

void refuse_folder(const Path& folder) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (!fs::exists(status)) throw Error(ErrorKind::not_found, "no such folder", folder.string());
  if (!fs::is_directory(status)) refuse_file(folder);
  const auto names = file_names(folder);
  struct Other {
    std::string_view prefix, suffix, what, advice;
  };
  static constexpr std::string_view kConvert =
      "take a revision with safetensors, or convert with transformers' save_pretrained";
  static constexpr std::string_view kNamed =
      "weights are read from model.safetensors, pytorch_model.bin or the shards of their index";
  static constexpr std::string_view kLayout =
      "take the Hugging Face layout of this model: config.json with model.safetensors";
  static constexpr Other kOthers[] = {
      {"pytorch_model-", ".bin", "shards without pytorch_model.bin.index.json",
       "the download is incomplete: fetch the index"},
      {"", ".bin", "the weights are in a file of an unknown name", kNamed},
      {"consolidated", "", "the weights are in the original consolidated layout", kLayout},
      {"", ".pth", "the weights are pickled PyTorch files", kConvert},
      {"", ".pt", "the weights are pickled PyTorch files", kConvert},
      {"", ".gguf", "the weights are a GGUF file", "name the GGUF file itself"},
      {"", ".onnx", "the weights are an ONNX graph", kLayout},
      {"tf_model", ".h5", "the weights are TensorFlow files", kConvert},
      {"flax_model", ".msgpack", "the weights are Flax files", kConvert},
      {"tf_model", ".ckpt", "the weights are TensorFlow files", kConvert},
      {"mlx_model", "", "the weights are MLX files", kLayout},
      {"model-", ".safetensors", "shards without model.safetensors.index.json",
       "the download is incomplete: fetch the index"},
      {"", ".safetensors", "no model.safetensors", kLayout},
  };
  refuse_adapter(folder, names);
  for (const Other& other : kOthers) {
    for (const auto& name : names) {
      if (starts_with(name, other.prefix) && ends_with(name, other.suffix)) {
        throw Error(ErrorKind::unsupported, std::string(other.what) + " (" + name + ")",
                    folder.string(), std::string(other.advice));
      }
    }
  }
  if (names.empty())
    throw Error(ErrorKind::not_found, "the folder is empty: no model.safetensors", folder.string());
  const bool config = holds(names, "config.json");
  throw Error(ErrorKind::not_found,
              std::string(config ? "" : "no config.json, ") +
                  "no model.safetensors and no model.safetensors.index.json",
              folder.string(),
              config ? "the download may be incomplete; qwb-pull gets a whole model"
                     : "name the folder of a Hugging Face checkpoint or a .gguf file");
}

bool WeightNames::in(const Path& folder) const {
  std::error_code ignored;
  return fs::exists(folder / single, ignored) || fs::exists(folder / index, ignored);
}

const WeightNames* weight_names(const Path& folder) {
  const auto* found = std::find_if(std::begin(kNames), std::end(kNames),
                                   [&](const WeightNames& names) { return names.in(folder); });
  return found == std::end(kNames) ? nullptr : found;
}

std::shared_ptr<const Checkpoint> Checkpoint::open(const Path& folder) {
  const WeightNames* names = weight_names(folder);
  if (names == nullptr) refuse_folder(folder);
  std::error_code ignored;
  if (!fs::exists(folder / "config.json", ignored)) {
    throw Error(
        ErrorKind::not_found, "no config.json", folder.string(),
        "without it the weights cannot be understood; fetch it from where the model came from");
  }
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->folder_ = folder;
  const auto note = [&](const std::string& name) {
    checkpoint->source_files_.push_back(source_file(folder / name));
  };
  note("config.json");
  checkpoint->config_ =
      parse_json(read_text(folder / "config.json", 64 << 20), (folder / "config.json").string());
  if (!checkpoint->config_.is_object())
    throw Error(ErrorKind::failed, "not a JSON object", (folder / "config.json").string());

  refuse_weights_elsewhere(folder, checkpoint->config_);
  if (fs::exists(folder / names->single, ignored)) {
    note(names->single);
    checkpoint->add_file(names->single, *names);
    return checkpoint;
  }
  note(names->index);
  const std::string index = (folder / names->index).string();
  const std::map<std::string, std::string> listed = parse_shard_index(read_text(index), index);
  std::set<std::string> shards;
  for (const auto& [tensor, file] : listed) shards.insert(file);
  for (const std::string& shard : shards) {
    if (!fs::exists(folder / shard, ignored)) {
      throw Error(ErrorKind::not_found, "shard " + shard + " is missing", folder.string(),
                  "the download is incomplete: fetch it again");
    }
    note(shard);
    checkpoint->add_file(shard, *names);
  }
  checkpoint->note_stale_entries(listed, *names);
  checkpoint->note_extra_shards(shards, *names);
  return checkpoint;
}

void Checkpoint::add_file(const std::string& name, const WeightNames& names) {
  files_.push_back(names.open(folder_ / name));
  const TensorFile& file = *files_.back();
  for (size_t entry = 0; entry < file.count(); ++entry) {
    const std::string tensor = file.spec(entry).name;
    if (!index_.emplace(tensor, std::make_pair(files_.size() - 1, entry)).second) {
      throw Error(ErrorKind::failed, "tensor '" + tensor + "' is in two shards", folder_.string(),
                  "the checkpoint is damaged");
    }
  }
  const std::vector<std::string> left_out = file.notes();
  notes_.insert(notes_.end(), left_out.begin(), left_out.end());
}

// Loaders read the shards and believe what they hold, not the index: an entry that no shard has is
// left over from something that was taken out. Whether the model needs it is for check_model() to
// say.
void Checkpoint::note_stale_entries(const std::map<std::string, std::string>& listed,
                                    const WeightNames& names) {
  std::vector<std::string> stale;
  for (const auto& [tensor, file] : listed) {
    if (!index_.contains(tensor)) stale.push_back(tensor);
  }
  if (stale.empty()) return;
  notes_.push_back(std::string(names.index) + " names " + named_tensors(stale) +
                   " that no shard holds: left out, as transformers does");
}

// As transformers: a shard that the index does not name is no part of the model.
void Checkpoint::note_extra_shards(const std::set<std::string>& shards, const WeightNames& names) {
  std::vector<std::string> extra;
  for (const std::string& name : file_names(folder_)) {
    if (starts_with(name, names.shard_begin) && ends_with(name, names.shard_end) &&
        !shards.contains(name))
      extra.push_back(name);
  }
  if (extra.empty()) return;
  notes_.push_back(
      "the index does not name " + extra.front() +
      (extra.size() > 1 ? " and " + std::to_string(extra.size() - 1) + " more files" : "") +
      ": left out, as transformers does");
}

std::shared_ptr<const Checkpoint> Checkpoint::renamed(const std::string& tensor,
                                                      const std::string& name,
                                                      const std::string& note) const {
  auto other = std::make_shared<Checkpoint>(*this);
  auto entry = other->index_.extract(tensor);
  entry.key() = name;
  other->index_.insert(std::move(entry));
  other->notes_.push_back(note);
  return other;
}

std::vector<StoredTensor> Checkpoint::stored_tensors() const {
  std::vector<StoredTensor> list;
  for (const auto& file : files_) {
    for (size_t entry = 0; entry < file->count(); ++entry) {
      const PartSpec spec = file->spec(entry);
      list.push_back({.name = spec.name,
                      .type = std::string(dtype_name(spec.dtype)),
                      .shape = spec.shape,
                      .bytes = part_bytes(spec),
                      .file = file->mapped().path().filename().string()});
    }
  }
  return list;
}

std::string named_tensors(const std::vector<std::string>& names) {
  constexpr size_t kNamed = 3;
  std::string text = names.size() == 1 ? "a tensor (" : std::to_string(names.size()) + " tensors (";
  for (size_t i = 0; i < std::min(names.size(), kNamed); ++i)
    text += (i == 0 ? "" : ", ") + names[i];
  return text + (names.size() > kNamed ? ", ...)" : ")");
}

std::optional<TensorView> Checkpoint::find(const std::string& name) const {
  const auto it = index_.find(name);
  if (it == index_.end()) return std::nullopt;
  return files_[it->second.first]->view(it->second.second);
}

std::optional<PartSpec> Checkpoint::describe(const std::string& name) const {
  const auto it = index_.find(name);
  if (it == index_.end()) return std::nullopt;
  PartSpec spec = files_[it->second.first]->spec(it->second.second);
  spec.name = name;
  return spec;
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> result;
  result.reserve(index_.size());
  for (const auto& [name, place] : index_) result.push_back(name);
  return result;
}

// The hints need only the address, so any of the files can give them.
void Checkpoint::release(const TensorView& view) const {
  if (!files_.empty()) files_.front()->mapped().drop(view.bytes);
}

void Checkpoint::prefetch(const TensorView& view) const {
  if (!files_.empty()) files_.front()->mapped().prefetch(view.bytes);
}

int64_t Checkpoint::weight_bytes() const {
  int64_t total = 0;
  for (const auto& file : files_) total += static_cast<int64_t>(file->mapped().bytes().size());
  return total;
}

}  // namespace qwb
