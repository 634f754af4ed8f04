#include "formats/pickle/torch_file.h"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "formats/pickle/globals.h"
#include "formats/tensor_file.h"
#include "lib/base/file_kind.h"

namespace qwb {
namespace {

constexpr char kTakeAnother[] = "take a revision with safetensors";
// The number 0x1950a86a20f9469cfc6c as a pickle of its own, and protocol 1001 as the next.
constexpr std::string_view kStream(
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.", 21);
constexpr size_t kTarMagic = 257;  // "ustar" in the first header

[[noreturn]] void refuse_torch(const std::string& what, const std::string& where,
                               const std::string& advice = kTakeAnother) {
  throw Error(ErrorKind::unsupported, what, where, advice);
}
[[noreturn]] void damaged_torch(const std::string& what, const std::string& where) {
  throw Error(ErrorKind::failed, what, where, "the file is damaged; fetch it again");
}

// The members that torch.save writes, under a prefix of any name.
class TorchArchive {
 public:
  TorchArchive(Bytes file, const std::string& where)
      : file_(file), where_(where), members_(parse_zip_index(file, where)) {
    find_prefix();
    for (const char* script : {"constants.pkl", "code/"}) {
      if (has_below(script)) refuse_torch("is a TorchScript program, not a state dict", where_);
    }
    if (const auto order = small("byteorder"); order && *order != "little")
      refuse_torch("its bytes are in the order '" + order->substr(0, 20) + "'", where_);
  }

  TorchContents read() const {
    const ZipMember& pickle = members_.at(prefix_ + "data.pkl");
    check_zip_sum(file_, prefix_ + "data.pkl", pickle, where_);
    const Bytes text = file_.first(static_cast<size_t>(pickle.end));
    const std::string where = where_ + ": data.pkl";
    const PickleGraph graph = parse_pickle(text, static_cast<size_t>(pickle.begin), where_);
    if (graph.end != text.size()) damaged_torch("bytes follow the end of its pickle", where);
    TorchContents contents{read_state_dict(graph, where_), {}};
    for (const TorchStorage& storage : contents.dict.storages) {
      const std::string name = prefix_ + "data/" + storage.key;
      const auto it = members_.find(name);
      if (it == members_.end()) damaged_torch("the storage '" + name + "' is missing", where_);
      const ZipMember& member = it->second;
      if (storage.bytes > member.end - member.begin)
        damaged_torch("the storage '" + name + "' is smaller than its description", where_);
      contents.places.push_back({member.begin, member.end, name, member.sum});
    }
    return contents;
  }

 private:
  void find_prefix() {
    size_t found = 0;
    for (const auto& [name, member] : members_) {
      if (name != "data.pkl" && !name.ends_with("/data.pkl")) continue;
      prefix_ = name.substr(0, name.size() - std::string_view("data.pkl").size());
      ++found;
    }
    if (found == 0) refuse_torch("is a ZIP archive without the pickle of a state dict", where_);
    if (found > 1) refuse_torch("holds " + std::to_string(found) + " pickles", where_);
  }
  bool has_below(const std::string& name) const {
    const auto it = members_.lower_bound(prefix_ + name);
    return it != members_.end() && it->first.starts_with(prefix_ + name);
  }
  std::optional<std::string> small(const char* name) const {
    const auto it = members_.find(prefix_ + name);
    if (it == members_.end()) return std::nullopt;
    check_zip_sum(file_, it->first, it->second, where_);
    return std::string(
        as_text(file_.subspan(static_cast<size_t>(it->second.begin),
                              static_cast<size_t>(it->second.end - it->second.begin))));
  }

  Bytes file_;
  const std::string& where_;
  std::map<std::string, ZipMember> members_;
  std::string prefix_;
};

// The bytes of an element of every storage that the pickle describes, those of tensors that are not
// read (a trainer's own) among them.
std::map<std::string_view, int64_t> storage_widths(const PickleGraph& object) {
  std::map<std::string_view, int64_t> widths;
  for (const PickleValue& value : object.values) {
    if (value.kind != PickleKind::storage) continue;
    const auto elements = storage_type(object.at(value.items[1]).text);
    widths.emplace(object.at(value.items[2]).text, elements ? dtype_size(*elements) : 1);
  }
  return widths;
}

// Behind the pickles of a stream: of every key the element count and the elements.
void place_storages(Bytes file, const PickleGraph& object, const PickleGraph& keys,
                    const std::string& where, TorchContents& contents) {
  std::map<std::string_view, int64_t> left = storage_widths(object);
  std::map<std::string_view, size_t> places;
  const auto& storages = contents.dict.storages;
  for (size_t i = 0; i < storages.size(); ++i) places.emplace(storages[i].key, i);
  contents.places.resize(storages.size());
  const auto size = static_cast<int64_t>(file.size());
  auto at = static_cast<int64_t>(keys.end);
  for (const PickleId item : keys.at(keys.root).items) {
    const auto described = left.find(keys.at(item).text);
    if (described == left.end())
      damaged_torch("it has a storage that its pickle does not describe, or twice", where);
    if (size - at < 8) damaged_torch("it ends inside of its storages", where);
    const auto count = load<int64_t>(file.data() + at);
    const int64_t bytes = checked_mul(count, described->second, where);
    const auto read = places.find(described->first);
    if (count < 0 || bytes > size - at - 8 ||
        (read != places.end() && bytes != storages[read->second].bytes))
      damaged_torch("a storage has another size than its description, or the file ends", where);
    at += 8;
    if (read != places.end()) {
      contents.places[read->second] = {at, at + bytes, {}, 0};
      places.erase(read);
    }
    at += bytes;
    left.erase(described);
  }
  if (!places.empty()) damaged_torch("a storage is missing", where);
  if (at != size) damaged_torch("bytes follow its last storage", where);
}

// Five pickles (magic number, protocol, system, the object, the keys of its storages), then of
// every storage its element count and its elements.
TorchContents parse_torch_stream(Bytes file, const std::string& where) {
  const PickleGraph system = parse_pickle(file, kStream.size(), where);
  const PickleValue& settings = system.at(system.root);
  for (size_t i = 0; i + 1 < settings.items.size(); i += 2) {
    if (system.at(settings.items[i]).text == "little_endian" &&
        system.at(settings.items[i + 1]).number != 1)
      refuse_torch("its bytes are in big-endian order", where);
  }
  const PickleGraph object = parse_pickle(file, system.end, where);
  const PickleGraph keys = parse_pickle(file, object.end, where);
  TorchContents contents{read_state_dict(object, where), {}};
  place_storages(file, object, keys, where, contents);
  return contents;
}

class TorchFile : public TensorFile {
 public:
  explicit TorchFile(const Path& path)
      : file_(MappedFile::open(path)),
        where_(path.string()),
        contents_(parse_torch_file(file_.bytes(), where_)),
        checked_(contents_.places.size()),
        gathered_(contents_.dict.tensors.size()) {}

  const MappedFile& mapped() const override { return file_; }
  size_t count() const override { return contents_.dict.tensors.size(); }
  std::vector<std::string> notes() const override { return contents_.dict.notes; }
  PartSpec spec(size_t tensor) const override {
    const StridedTensor& entry = contents_.dict.tensors[tensor];
    return {entry.name, entry.dtype, entry.shape};
  }
  TensorView view(size_t tensor) const override {
    const StridedTensor& entry = contents_.dict.tensors[tensor];
    const Bytes storage = storage_of(entry);
    if (entry.contiguous()) {
      return {
          entry.dtype, entry.shape,
          storage.subspan(static_cast<size_t>(entry.begin), static_cast<size_t>(entry.bytes()))};
    }
    const std::lock_guard lock(mutex_);
    auto& kept = gathered_[tensor];
    if (!kept) kept = std::make_unique<Tensor>(gather(entry, storage));
    return kept->view();
  }

 private:
  // Its sum is checked when it is first asked for.
  Bytes storage_of(const StridedTensor& tensor) const {
    const StoragePlace& place = contents_.places[tensor.storage];
    if (!place.member.empty()) {
      std::call_once(checked_[tensor.storage], [&] {
        check_zip_sum(file_.bytes(), place.member, {place.begin, place.end, place.sum}, where_);
      });
    }
    return file_.bytes().subspan(static_cast<size_t>(place.begin),
                                 static_cast<size_t>(place.end - place.begin));
  }

  MappedFile file_;
  std::string where_;
  TorchContents contents_;
  mutable std::vector<std::once_flag> checked_;  // of every storage
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Tensor>> gathered_;  // of those that are not contiguous
};

}  // namespace

TorchContents parse_torch_file(Bytes file, const std::string& where) {
  const std::string_view text = as_text(file);
  if (text.starts_with("PK\x03\x04")) return TorchArchive(file, where).read();
  if (text.starts_with(kStream)) return parse_torch_stream(file, where);
  if (text.size() > kTarMagic && text.substr(kTarMagic).starts_with("ustar")) {
    refuse_torch("is a tar archive, the form of PyTorch before 0.1.10", where,
                 "load and save it again with a PyTorch that still reads it (below 2.6)");
  }
  if (text.starts_with("\x80")) {
    refuse_torch("is a pickle, but not one of a state dict that torch.save wrote", where,
                 "take a revision with safetensors");
  }
  refuse_foreign(file, where);
  damaged_torch("is not what torch.save writes", where);
}

std::shared_ptr<const TensorFile> open_torch_file(const Path& path) {
  return std::make_shared<TorchFile>(path);
}

}  // namespace qwb
