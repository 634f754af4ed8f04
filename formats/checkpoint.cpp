#include "formats/checkpoint.h"

#include <algorithm>
#include <set>

namespace qwb {
namespace fs = std::filesystem;

namespace {

constexpr char kSingle[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";

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

// Takes weight_map out of the index by events: an ordinary tree of ordered keys would search linearly at
// every insertion.
class IndexEvents : public nlohmann::json_sax<Json> {
 public:
  IndexEvents(std::map<std::string, std::string>& map, const std::string& where) : map_(map), where_(where) {}
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
    throw Error(ErrorKind::failed, what, where_, "the file is damaged or incomplete; fetch it again");
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

}  // namespace

std::map<std::string, std::string> parse_shard_index(std::string_view text, const std::string& where) {
  if (text.find('\0') != std::string_view::npos)
    throw Error(ErrorKind::failed, "not valid JSON: a NUL byte", where);
  std::map<std::string, std::string> map;
  IndexEvents events(map, where);
  Json::sax_parse(text.begin(), text.end(), &events);
  if (!events.found()) throw Error(ErrorKind::failed, "no weight_map", where, "the index is damaged");
  for (const auto& [tensor, file] : map) check_shard_name(file, where);
  return map;
}

void refuse_folder(const Path& folder) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (!fs::exists(status)) throw Error(ErrorKind::not_found, "no such folder", folder.string());
  if (!fs::is_directory(status)) {
    throw Error(ErrorKind::unsupported, "is a file", folder.string(),
                "give the folder that holds config.json and the safetensors files");
  }
  const auto names = file_names(folder);
  struct Other {
    std::string_view prefix, suffix, what, advice;
  };
  static constexpr std::string_view kConvert =
      "only safetensors are read: take a revision that has them, or convert with transformers' "
      "save_pretrained";
  static constexpr std::string_view kLayout =
      "take the Hugging Face layout of this model: config.json with model.safetensors";
  static constexpr Other kOthers[] = {
      {"pytorch_model", ".bin", "the weights are pickled PyTorch files", kConvert},
      {"consolidated", "", "the weights are in the original consolidated layout", kLayout},
      {"", ".pth", "the weights are pickled PyTorch files", kConvert},
      {"", ".pt", "the weights are pickled PyTorch files", kConvert},
      {"", ".gguf", "the weights are a GGUF file", kLayout},
      {"", ".onnx", "the weights are an ONNX graph", kLayout},
      {"tf_model", ".h5", "the weights are TensorFlow files", kConvert},
      {"flax_model", ".msgpack", "the weights are Flax files", kConvert},
      {"adapter_model", ".safetensors", "this is an adapter, not a model",
       "give the model's folder; the adapter goes beside it"},
      {"model-", ".safetensors", "shards without model.safetensors.index.json",
       "the download is incomplete: fetch the index"},
      {"", ".safetensors", "no model.safetensors", kLayout},
  };
  for (const Other& other : kOthers) {
    for (const auto& name : names) {
      if (starts_with(name, other.prefix) && ends_with(name, other.suffix)) {
        throw Error(ErrorKind::unsupported, std::string(other.what) + " (" + name + ")", folder.string(),
                    std::string(other.advice));
      }
    }
  }
  throw Error(ErrorKind::not_found, "no model.safetensors and no model.safetensors.index.json",
              folder.string(), "the download may be incomplete");
}

std::shared_ptr<const Checkpoint> Checkpoint::open(const Path& folder) {
  std::error_code ignored;
  const bool single = fs::exists(folder / kSingle, ignored);
  if (!single && !fs::exists(folder / kIndex, ignored)) refuse_folder(folder);
  if (!fs::exists(folder / "config.json", ignored)) {
    throw Error(ErrorKind::not_found, "no config.json", folder.string(),
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

  std::map<std::string, std::string> listed;
  std::set<std::string> shards;
  const std::string index = (folder / kIndex).string();
  if (single) {
    shards.insert(kSingle);
  } else {
    note(kIndex);
    listed = parse_shard_index(read_text(index), index);
    for (const auto& [tensor, file] : listed) shards.insert(file);
  }
  for (const std::string& shard : shards) {
    if (!fs::exists(folder / shard, ignored)) {
      throw Error(ErrorKind::not_found, "shard " + shard + " is missing", folder.string(),
                  "the download is incomplete: fetch it again");
    }
    note(shard);
    checkpoint->files_.push_back(SafetensorsFile::open(folder / shard));
    const auto& tensors = checkpoint->files_.back().header().tensors;
    for (size_t entry = 0; entry < tensors.size(); ++entry) {
      const std::string& name = tensors[entry].name;
      if (!checkpoint->index_.emplace(name, std::make_pair(checkpoint->files_.size() - 1, entry)).second) {
        throw Error(ErrorKind::failed, "tensor '" + name + "' is in two shards", folder.string(),
                    "the checkpoint is damaged");
      }
    }
  }
  for (const auto& [tensor, file] : listed) {
    const auto it = checkpoint->index_.find(tensor);
    if (it == checkpoint->index_.end() ||
        checkpoint->files_[it->second.first].mapped().path().filename() != file) {
      throw Error(ErrorKind::failed,
                  "tensor '" + tensor + "' is not in " + file + ", where the index puts it", folder.string(),
                  "the index and the shards do not belong together; fetch both again");
    }
  }
  return checkpoint;
}

std::optional<TensorView> Checkpoint::find(const std::string& name) const {
  const auto it = index_.find(name);
  if (it == index_.end()) return std::nullopt;
  const SafetensorsFile& file = files_[it->second.first];
  return file.view(file.header().tensors[it->second.second]);
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> result;
  result.reserve(index_.size());
  for (const auto& [name, place] : index_) result.push_back(name);
  return result;
}

// The hints need only the address, so any of the files can give them.
void Checkpoint::release(const TensorView& view) const {
  if (!files_.empty()) files_.front().mapped().drop(view.bytes);
}

void Checkpoint::prefetch(const TensorView& view) const {
  if (!files_.empty()) files_.front().mapped().prefetch(view.bytes);
}

int64_t Checkpoint::weight_bytes() const {
  int64_t total = 0;
  for (const auto& file : files_) total += static_cast<int64_t>(file.mapped().bytes().size());
  return total;
}

}  // namespace qwb
