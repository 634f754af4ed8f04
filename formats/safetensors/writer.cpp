#include <algorithm>
#include <array>
#include <iterator>
#include <tuple>

#include "formats/safetensors/safetensors.h"
#include "lib/base/json.h"

namespace qwb {
namespace {

// Place in the reference's enumeration, by which files are laid out in descending order: the widest
// types come first, so that without padding between tensors each is still aligned to its element
// size.
int layout_rank(DType type) {
  static constexpr std::array<DType, 15> kAscending = {
      DType::boolean, DType::u8,  DType::i8,  DType::f8_e4m3, DType::f8_e8m0,
      DType::i16,     DType::u16, DType::f16, DType::bf16,    DType::i32,
      DType::u32,     DType::f32, DType::f64, DType::i64,     DType::u64};
  return static_cast<int>(std::find(kAscending.begin(), kAscending.end(), type) -
                          kAscending.begin());
}

std::string json_quoted(const std::string& text) {
  try {
    return Json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorKind::usage, "not valid UTF-8", "tensor name or metadata");
  }
}

std::string entry_text(const PartSpec& spec, int64_t begin, int64_t end) {
  std::string shape;
  for (const int64_t extent : spec.shape)
    shape += (shape.empty() ? "" : ",") + std::to_string(extent);
  return json_quoted(spec.name) + ":{\"dtype\":\"" + std::string(dtype_name(spec.dtype)) +
         "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(begin) + "," +
         std::to_string(end) + "]}";
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const Path& path, const std::vector<PartSpec>& tensors,
                                     std::map<std::string, std::string> metadata)
    : path_(path) {
  std::vector<PartSpec> order = tensors;
  std::sort(order.begin(), order.end(), [](const PartSpec& a, const PartSpec& b) {
    return std::make_tuple(-layout_rank(a.dtype), std::string_view(a.name)) <
           std::make_tuple(-layout_rank(b.dtype), std::string_view(b.name));
  });
  metadata.emplace("format", "pt");
  std::string header = "{\"__metadata__\":{";
  for (auto it = metadata.begin(); it != metadata.end(); ++it) {
    header += (it == metadata.begin() ? "" : ",") + json_quoted(it->first) + ":" +
              json_quoted(it->second);
  }
  header += "}";
  int64_t at = 0;
  for (const PartSpec& spec : order) {
    const int64_t size =
        checked_mul(element_count(spec.shape, spec.name), dtype_size(spec.dtype), spec.name);
    const int64_t end = checked_add(at, size, spec.name);
    header += "," + entry_text(spec, at, end);
    if (spec.name == "__metadata__" || !slots_.emplace(spec.name, Slot{at, size, {}}).second) {
      throw Error(ErrorKind::usage, "tensor name '" + spec.name + "' is reserved or used twice",
                  path.string());
    }
    at = end;
  }
  header += "}";
  header.resize(static_cast<size_t>(ceil_div(static_cast<int64_t>(header.size()), 8) * 8), ' ');
  const auto length = static_cast<int64_t>(header.size());
  if (length > kMaxSafetensorsHeader)
    throw Error(ErrorKind::failed, "too many tensors for one safetensors file", path.string());
  for (auto& [name, slot] : slots_) slot.begin += 8 + length;
  file_size_ = checked_add(8 + length, at, path.string());

  file_ = OutputFile::create(path, file_size_);
  std::array<std::byte, 8> prefix;
  store(prefix.data(), static_cast<uint64_t>(length));
  try {
    file_.write(0, prefix);
    file_.write(8, as_bytes(header));
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
    throw;
  }
}

SafetensorsWriter::~SafetensorsWriter() {
  if (finished_) return;
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

SafetensorsWriter::Slot& SafetensorsWriter::declared(const std::string& name) {
  const auto it = slots_.find(name);
  if (it == slots_.end())
    throw Error(ErrorKind::usage, "tensor '" + name + "' was not declared", path_.string());
  return it->second;
}

void SafetensorsWriter::put(const std::string& name, Bytes content) {
  const Slot& slot = declared(name);
  if (static_cast<int64_t>(content.size()) != slot.size) {
    throw Error(
        ErrorKind::usage,
        std::to_string(content.size()) + " bytes given, " + std::to_string(slot.size) + " declared",
        path_.string() + ": tensor '" + name + "'");
  }
  put_part(name, 0, content);
}

void SafetensorsWriter::put_part(const std::string& name, int64_t offset, Bytes content) {
  Slot& slot = declared(name);
  const auto size = static_cast<int64_t>(content.size());
  if (offset < 0 || offset > slot.size || size > slot.size - offset) {
    throw Error(ErrorKind::usage, "bytes beyond the tensor",
                path_.string() + ": tensor '" + name + "'");
  }
  if (size == 0) return;
  claim(name, slot, offset, offset + size);
  file_.write(slot.begin + offset, content);
}

// Notes [begin, end) as written, merged with its neighbours.
void SafetensorsWriter::claim(const std::string& name, Slot& slot, int64_t begin, int64_t end) {
  const std::lock_guard lock(mutex_);
  auto next = slot.written.lower_bound(begin);
  const bool before_overlaps = next != slot.written.begin() && std::prev(next)->second > begin;
  if (before_overlaps || (next != slot.written.end() && next->first < end)) {
    throw Error(ErrorKind::usage, "bytes written twice",
                path_.string() + ": tensor '" + name + "'");
  }
  if (next != slot.written.end() && next->first == end) {
    end = next->second;
    next = slot.written.erase(next);
  }
  if (next != slot.written.begin() && std::prev(next)->second == begin) {
    std::prev(next)->second = end;
  } else {
    slot.written.emplace_hint(next, begin, end);
  }
}

void SafetensorsWriter::finish() {
  const std::lock_guard lock(mutex_);
  for (const auto& [name, slot] : slots_) {
    const bool whole =
        slot.size == 0 || (slot.written.size() == 1 && slot.written.begin()->first == 0 &&
                           slot.written.begin()->second == slot.size);
    if (!whole)
      throw Error(ErrorKind::usage, "not all bytes were written",
                  path_.string() + ": tensor '" + name + "'");
  }
  file_.finish();
  finished_ = true;
}

}  // namespace qwb
