#include "lib/evaluate/result_cache.h"

#include <system_error>

#include "lib/base/error.h"
#include "lib/base/hash.h"

namespace qwb {
namespace {

std::string sum_of(const Json& json) {
  return hash_hex(as_bytes(json_canonical(json)));
}

Path file_of(const Path& folder, const Json& key) {
  return folder / (sum_of(key) + ".json");
}

}  // namespace

std::optional<Json> load_result(const Path& folder, const Json& key) {
  try {
    const Path file = file_of(folder, key);
    const Json stored = parse_json(read_text(file), file.string());
    if (!stored.is_object() || json_canonical(stored.value("key", Json())) != json_canonical(key))
      return std::nullopt;
    const Json value = stored.value("value", Json());
    if (stored.value("sum", "") != sum_of(value)) return std::nullopt;
    return value;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void store_result(const Path& folder, const Json& key, const Json& value) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw system_error("cannot create", folder.string(), error.value());
  const Json stored = {{"key", key}, {"sum", sum_of(value)}, {"value", value}};
  write_file_atomically(file_of(folder, key), as_bytes(json_text(stored)));
}

}  // namespace qwb
