// The header is read by events, not into a JSON tree: a checkpoint has up to hundreds of thousands
// of entries, and the events let every rule be checked where its byte is.
#include <algorithm>
#include <set>

#include "formats/safetensors/safetensors.h"
#include "lib/base/file_kind.h"
#include "lib/base/json.h"

namespace qwb {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr size_t kMaxRank = 64;  // the format sets none; PyTorch stops at 64
constexpr char kMetadata[] = "__metadata__";
constexpr char kDamaged[] = "the file is damaged or incomplete; fetch it again";

[[noreturn]] void damaged_safetensors(const std::string& what, const std::string& where) {
  throw Error(ErrorKind::failed, "safetensors: " + what, where, kDamaged);
}

std::string tensor_text(const std::string& name) {
  return "tensor '" + name.substr(0, 200) + "'";
}

class HeaderEvents : public nlohmann::json_sax<Json> {
 public:
  HeaderEvents(SafetensorsHeader& header, const std::string& where)
      : header_(header), where_(where) {}

  bool start_object(size_t) override {
    if (place_ == Place::outside) return enter(Place::top);
    if (place_ == Place::top_value) return begin_entry();
    bad("an object where none belongs");
  }
  bool end_object() override {
    if (place_ == Place::top) return enter(Place::done);
    if (place_ == Place::entry) finish_entry();
    return enter(Place::top);
  }
  bool key(std::string& text) override {
    if (place_ == Place::top) {
      name_ = text;
      return enter(Place::top_value);
    }
    if (place_ == Place::metadata) {
      metadata_key_ = text;
      return enter(Place::metadata_value);
    }
    return entry_key(text);
  }
  bool string(std::string& text) override {
    if (place_ == Place::metadata_value) {
      if (!header_.metadata.emplace(metadata_key_, text).second)
        bad("metadata key '" + metadata_key_ + "' appears twice");
      return enter(Place::metadata);
    }
    if (place_ != Place::dtype) bad("a string where none belongs");
    const auto type = dtype_from_name(text);
    if (!type) {
      throw Error(ErrorKind::unsupported,
                  tensor_text(name_) + " has the element type '" + text.substr(0, 40) + "'", where_,
                  "this build holds the types F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL "
                  "F8_E4M3 F8_E8M0");
    }
    entry_.dtype = *type;
    return enter(Place::entry);
  }
  bool start_array(size_t) override {
    if (place_ == Place::shape) return enter(Place::shape_numbers);
    if (place_ == Place::offsets) return enter(Place::offset_numbers);
    bad("an array where none belongs");
  }
  bool end_array() override {
    if (place_ == Place::offset_numbers && offsets_.size() != 2)
      bad("data_offsets must be two numbers");
    return enter(Place::entry);
  }
  bool number_unsigned(uint64_t value) override {
    if (place_ != Place::shape_numbers && place_ != Place::offset_numbers)
      bad("a number where none belongs");
    if (value > static_cast<uint64_t>(INT64_MAX)) bad("a size overflows 63 bits");
    auto& numbers = place_ == Place::shape_numbers ? entry_.shape : offsets_;
    if (numbers.size() >= kMaxRank) bad("more than " + std::to_string(kMaxRank) + " dimensions");
    numbers.push_back(static_cast<int64_t>(value));
    return true;
  }
  bool number_integer(int64_t) override { bad("a negative number"); }
  bool number_float(double, const std::string& text) override {
    bad("'" + text.substr(0, 40) + "' is not a plain integer");
  }
  bool null() override { bad("null where none belongs"); }
  bool boolean(bool) override { bad("a truth value where none belongs"); }
  bool binary(binary_t&) override { bad("binary data"); }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& error) override {
    damaged_safetensors("the header: " + json_problem({}, 0, error.what()), where_);
  }

 private:
  enum class Place {
    outside,
    top,
    top_value,
    metadata,
    metadata_value,
    entry,
    dtype,
    shape,
    shape_numbers,
    offsets,
    offset_numbers,
    done
  };

  [[noreturn]] void bad(const std::string& what) const {
    damaged_safetensors(name_.empty() ? what : what + " in the entry of " + tensor_text(name_),
                        where_);
  }
  bool enter(Place place) {
    place_ = place;
    return true;
  }
  bool begin_entry() {
    if (name_ == kMetadata) {
      if (metadata_seen_) bad("appears twice");
      metadata_seen_ = true;
      return enter(Place::metadata);
    }
    entry_ = {};
    entry_.name = name_;
    offsets_.clear();
    seen_.clear();
    return enter(Place::entry);
  }
  bool entry_key(const std::string& text) {
    if (!seen_.insert(text).second) bad("'" + text.substr(0, 40) + "' appears twice");
    if (text == "dtype") return enter(Place::dtype);
    if (text == "shape") return enter(Place::shape);
    if (text == "data_offsets") return enter(Place::offsets);
    bad("unknown field '" + text.substr(0, 40) + "'");
  }
  void finish_entry() {
    if (seen_.size() != 3) bad("dtype, shape or data_offsets is missing");
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    const int64_t bytes =
        checked_mul(element_count(entry_.shape, where_ + ": " + tensor_text(name_)),
                    dtype_size(entry_.dtype), where_ + ": " + tensor_text(name_));
    if (entry_.end < entry_.begin) bad("data_offsets run backwards");
    if (entry_.end - entry_.begin != bytes) {
      bad("data_offsets span " + std::to_string(entry_.end - entry_.begin) + " bytes, the shape " +
          shape_text(entry_.shape) + " needs " + std::to_string(bytes));
    }
    header_.tensors.push_back(std::move(entry_));
  }

  SafetensorsHeader& header_;
  const std::string& where_;
  Place place_ = Place::outside;
  std::string name_;
  std::string metadata_key_;
  bool metadata_seen_ = false;
  SafetensorsEntry entry_;
  Shape offsets_;
  std::set<std::string> seen_;  // fields of the open entry
};

void check_unique_names(const std::vector<SafetensorsEntry>& tensors, const std::string& where) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const auto& entry : tensors) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end())
    damaged_safetensors(tensor_text(std::string(*twice)) + " appears twice", where);
}

// Sorted by bytes, the tensors must fill the data buffer without a gap, an overlap or a rest.
void check_layout(std::vector<SafetensorsEntry>& tensors, int64_t data_size,
                  const std::string& where) {
  std::sort(tensors.begin(), tensors.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  int64_t at = 0;
  for (const auto& entry : tensors) {
    if (entry.begin < at)
      damaged_safetensors(tensor_text(entry.name) + " overlaps the one before it", where);
    if (entry.begin > at)
      damaged_safetensors("a hole of " + std::to_string(entry.begin - at) + " bytes before " +
                              tensor_text(entry.name),
                          where);
    at = entry.end;
    if (at > data_size)
      damaged_safetensors(tensor_text(entry.name) + " reaches past the end of the file", where);
  }
  if (at != data_size)
    damaged_safetensors(std::to_string(data_size - at) + " bytes after the last tensor", where);
}

}  // namespace

SafetensorsHeader parse_safetensors_header(Bytes file, const std::string& where) {
  const auto file_size = static_cast<int64_t>(file.size());
  // A header begins with '{': what does not may be a file of another kind.
  if (file_size <= kLengthBytes || file[kLengthBytes] != std::byte{'{'})
    refuse_foreign(file, where);
  if (file_size < kLengthBytes)
    damaged_safetensors("only " + std::to_string(file_size) + " bytes", where);
  const auto length = load<uint64_t>(file.data());
  if (length > static_cast<uint64_t>(kMaxSafetensorsHeader)) {
    damaged_safetensors("the header claims " + std::to_string(length) + " bytes, more than the " +
                            std::to_string(kMaxSafetensorsHeader) + " allowed",
                        where);
  }
  if (static_cast<int64_t>(length) > file_size - kLengthBytes)
    damaged_safetensors("the header reaches past the end of the file", where);
  const std::string_view text = as_text(file.subspan(kLengthBytes, length));
  if (text.empty() || text.front() != '{')
    damaged_safetensors("the header does not begin with '{'", where);

  // The JSON parser takes a NUL for the end of its input, so that anything could hide behind one.
  if (text.find('\0') != std::string_view::npos)
    damaged_safetensors("the header is not valid JSON: it has a NUL byte", where);

  SafetensorsHeader header;
  header.data_begin = kLengthBytes + static_cast<int64_t>(length);
  HeaderEvents events(header, where);
  if (!Json::sax_parse(text.begin(), text.end(), &events))
    damaged_safetensors("the header is not valid JSON", where);
  check_unique_names(header.tensors, where);
  check_layout(header.tensors, file_size - header.data_begin, where);
  return header;
}

SafetensorsFile SafetensorsFile::open(const Path& path) {
  auto content = std::make_shared<Content>();
  content->file = MappedFile::open(path);
  content->header = parse_safetensors_header(content->file.bytes(), path.string());
  content->index.reserve(content->header.tensors.size());
  for (size_t i = 0; i < content->header.tensors.size(); ++i)
    content->index.emplace(content->header.tensors[i].name, i);
  SafetensorsFile file;
  file.content_ = std::move(content);
  return file;
}

std::optional<TensorView> SafetensorsFile::find(const std::string& name) const {
  const auto it = content_->index.find(name);
  if (it == content_->index.end()) return std::nullopt;
  return view(content_->header.tensors[it->second]);
}

TensorView SafetensorsFile::view(const SafetensorsEntry& entry) const {
  const int64_t begin = content_->header.data_begin + entry.begin;
  return {entry.dtype, entry.shape,
          content_->file.bytes().subspan(static_cast<size_t>(begin),
                                         static_cast<size_t>(entry.end - entry.begin))};
}

}  // namespace qwb
