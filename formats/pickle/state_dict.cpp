#include "formats/pickle/state_dict.h"

#include <algorithm>
#include <map>
#include <set>

#include "formats/pickle/globals.h"

namespace qwb {
namespace {

constexpr size_t kMaxTensorRank = 64;

class StateDictReader {
 public:
  StateDictReader(const PickleGraph& graph, const std::string& where)
      : graph_(graph), where_(where) {}

  StateDict read() {
    const PickleValue& dict = unwrapped(graph_.at(graph_.root));
    std::set<std::string> names;
    for (size_t i = 0; i < dict.items.size(); i += 2) {
      const PickleValue& key = graph_.at(dict.items[i]);
      if (key.kind != PickleKind::text)
        refused("has " + pickle_kind_name(key.kind) + " for a name");
      name_ = key.text;
      if (!names.insert(name_).second) damaged("appears twice");
      add(graph_.at(dict.items[i + 1]));
    }
    return std::move(result_);
  }

 private:
  std::string place() const { return where_ + ": tensor '" + name_.substr(0, 200) + "'"; }
  [[noreturn]] void damaged(const std::string& what) const {
    throw Error(ErrorKind::failed, what, place(), "the file is damaged or hostile");
  }
  [[noreturn]] void refused(const std::string& what) const {
    throw Error(ErrorKind::unsupported, what, name_.empty() ? where_ : place(),
                "only state dicts of plain tensors are read: take a revision with safetensors");
  }

  bool has_tensors(const PickleValue& dict) const {
    for (size_t i = 1; i < dict.items.size(); i += 2) {
      if (graph_.at(dict.items[i]).kind == PickleKind::tensor) return true;
    }
    return false;
  }
  const PickleValue* entry(const PickleValue& dict, std::string_view name) const {
    for (size_t i = 0; i < dict.items.size(); i += 2) {
      const PickleValue& key = graph_.at(dict.items[i]);
      if (key.kind == PickleKind::text && key.text == name) return &graph_.at(dict.items[i + 1]);
    }
    return nullptr;
  }
  // Trainers keep the weights beside their own state.
  const PickleValue& unwrapped(const PickleValue& top) {
    if (top.kind != PickleKind::dict)
      refused("the file holds " + pickle_kind_name(top.kind) + ", not a dict of tensors");
    if (has_tensors(top)) return top;
    for (const char* name : {"state_dict", "model"}) {
      const PickleValue* inner = entry(top, name);
      if (inner == nullptr || inner->kind != PickleKind::dict) continue;
      if (top.items.size() > 2)
        result_.notes.push_back("only '" + std::string(name) + "' is read of " + where_);
      return *inner;
    }
    return top;
  }

  void add(const PickleValue& value) {
    if (value.kind != PickleKind::tensor) refused("is " + pickle_kind_name(value.kind));
    const bool third = value.text.ends_with("_v3");
    const bool second = value.text.ends_with("_v2");
    const size_t least = third ? 7 : second ? 6 : 4;
    const size_t count = value.items.size();
    if (count < least || count > least + (third || second ? 1 : 0))
      damaged("is rebuilt from " + std::to_string(count) + " values");
    // Marks such as "conjugate" or "negative", which change every value.
    if (count > least && !is_empty(graph_.at(value.items[least])))
      refused("has metadata, which may change its values");
    StridedTensor tensor;
    tensor.name = name_;
    const PickleValue& storage = graph_.at(value.items[0]);
    if (storage.kind != PickleKind::storage) damaged("has no storage");
    tensor.dtype = third ? named_type(graph_.at(value.items[6])) : typed(storage);
    tensor.shape = sizes(graph_.at(value.items[2]));
    tensor.strides = sizes(graph_.at(value.items[3]));
    place_in(storage, integer(graph_.at(value.items[1])), tensor);
    result_.tensors.push_back(std::move(tensor));
  }
  static bool is_empty(const PickleValue& value) {
    return value.kind == PickleKind::none ||
           (value.kind == PickleKind::dict && value.items.empty());
  }
  int64_t integer(const PickleValue& value) const {
    if (value.kind != PickleKind::integer || value.number < 0)
      damaged("has " + pickle_kind_name(value.kind) + " for a size");
    return value.number;
  }
  Shape sizes(const PickleValue& value) const {
    if (value.kind != PickleKind::tuple && value.kind != PickleKind::list)
      damaged("has " + pickle_kind_name(value.kind) + " for a shape");
    if (value.items.size() > kMaxTensorRank) damaged("has too many dimensions");
    Shape shape;
    for (const PickleId item : value.items) shape.push_back(integer(graph_.at(item)));
    return shape;
  }
  DType typed(const PickleValue& storage) const {
    const std::string& name = graph_.at(storage.items[1]).text;
    const auto type = storage_type(name);
    if (!type) refused("has elements of '" + name + "', which this build does not hold");
    return *type;
  }
  DType named_type(const PickleValue& value) const {
    const auto type = element_type(value.text);
    if (value.kind != PickleKind::global || !type)
      refused("has elements of '" + value.text + "', which this build does not hold");
    return *type;
  }

  void place_in(const PickleValue& storage, int64_t offset, StridedTensor& tensor) {
    const std::string where = place();
    if (tensor.strides.size() != tensor.shape.size()) damaged("has not one stride a dimension");
    const int64_t width = dtype_size(tensor.dtype);
    offset = checked_add(offset, view_offset(storage), where);
    tensor.begin = checked_mul(offset, width, where);
    tensor.storage = kept(storage);
    const int64_t room = result_.storages[tensor.storage].bytes;
    const int64_t bytes = checked_mul(element_count(tensor.shape, where), width, where);
    if (bytes == 0) {
      tensor.begin = 0;
      return;
    }
    int64_t last = offset;
    for (size_t i = 0; i < tensor.shape.size(); ++i) {
      last = checked_add(last, checked_mul(tensor.shape[i] - 1, tensor.strides[i], where), where);
    }
    if (checked_mul(checked_add(last, 1, where), width, where) > room)
      damaged("reaches past the end of its storage");
    // Otherwise a few bytes could stand for any number of elements.
    if (bytes > room) refused("has more elements than its storage (it was expanded)");
  }
  // A storage may be a part of another (files of before 2018): (key, offset, elements) or None.
  int64_t view_offset(const PickleValue& storage) const {
    if (storage.items.size() < 6) return 0;
    const PickleValue& view = graph_.at(storage.items[5]);
    if (view.kind == PickleKind::none) return 0;
    if (view.kind != PickleKind::tuple || view.items.size() != 3)
      damaged("has a storage that is a view of something unknown");
    return integer(graph_.at(view.items[1]));
  }
  size_t kept(const PickleValue& storage) {
    const std::string& type = graph_.at(storage.items[1]).text;
    const auto elements = storage_type(type);
    if (!elements && !type.ends_with("UntypedStorage"))
      refused("has a storage of '" + type + "', which this build does not hold");
    TorchStorage made{graph_.at(storage.items[2]).text, 0, elements ? dtype_size(*elements) : 1};
    made.bytes = checked_mul(integer(graph_.at(storage.items[4])), made.width, place());
    const auto [it, added] = places_.try_emplace(made.key, result_.storages.size());
    if (added) {
      result_.storages.push_back(std::move(made));
      types_.push_back(type);
    } else if (types_[it->second] != type || result_.storages[it->second].bytes != made.bytes) {
      damaged("shares a storage that another tensor describes differently");
    }
    return it->second;
  }

  const PickleGraph& graph_;
  const std::string& where_;
  StateDict result_;
  std::string name_;
  std::map<std::string, size_t> places_;  // key of a storage -> its place
  std::vector<std::string> types_;        // of every storage
};

}  // namespace

StateDict read_state_dict(const PickleGraph& graph, const std::string& where) {
  return StateDictReader(graph, where).read();
}

bool StridedTensor::contiguous() const {
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 0) return true;
    if (shape[i] != 1 && strides[i] != step) return false;
    step *= shape[i];
  }
  return true;
}

Tensor gather(const StridedTensor& tensor, Bytes storage) {
  Tensor out(tensor.dtype, tensor.shape);
  const auto width = static_cast<size_t>(dtype_size(tensor.dtype));
  // Strides of dimensions of one element mean nothing, and may be any number.
  Shape shape, strides;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    if (tensor.shape[i] == 1) continue;
    shape.push_back(tensor.shape[i]);
    strides.push_back(tensor.strides[i]);
  }
  Shape index(shape.size(), 0);
  int64_t element = 0;  // of the storage, from `begin` on
  std::byte* to = out.bytes().data();
  for (int64_t left = element_count(tensor.shape); left > 0; --left, to += width) {
    std::copy_n(storage.data() + tensor.begin + element * static_cast<int64_t>(width), width, to);
    for (size_t i = shape.size(); i-- > 0;) {
      if (++index[i] < shape[i]) {
        element += strides[i];
        break;
      }
      element -= strides[i] * (shape[i] - 1);
      index[i] = 0;
    }
  }
  return out;
}

}  // namespace qwb
