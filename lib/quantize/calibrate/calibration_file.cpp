// Calibration sets on disk; byte-exact page: formats/qwb/qwbcalib.md.
#include <fstream>
#include <limits>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/quantize/calibrate/calibration.h"

namespace qwb {
namespace {

constexpr int64_t kVersion = 1;
constexpr int64_t kLargestFile = int64_t{1} << 32;

[[noreturn]] void damaged(const std::string& what, const std::string& where) {
  throw Error(ErrorKind::failed, what, where,
              "the file is damaged; save the calibration set again");
}

std::vector<int32_t> read_window(const Json& entry, int64_t length, const std::string& where) {
  if (!entry.is_array() || static_cast<int64_t>(entry.size()) != length)
    damaged("is not a list of " + std::to_string(length) + " tokens", where);
  std::vector<int32_t> window;
  window.reserve(entry.size());
  for (const Json& token : entry) {
    if (!token.is_number_unsigned() || token.get<uint64_t>() > std::numeric_limits<int32_t>::max())
      damaged("holds something that is no token id", where);
    window.push_back(token.get<int32_t>());
  }
  return window;
}

}  // namespace

std::string windows_hash(const std::vector<std::vector<int32_t>>& windows) {
  Hasher hasher;
  for (const auto& window : windows) hasher.bytes(std::as_bytes(std::span(window)));
  return hasher.hex();
}

std::string calibration_set_text(const CalibrationSet& set) {
  std::string text = "{\"format\": \"qwbcalib\", \"version\": " + std::to_string(kVersion) +
                     ",\n\"manifest\": " + set.manifest.dump() + ",\n\"windows\": [";
  for (size_t i = 0; i < set.windows.size(); ++i)
    text += (i == 0 ? "\n" : ",\n") + Json(set.windows[i]).dump();
  return text + "]}\n";
}

bool is_calibration_file(const Path& file) {
  std::string text(32, ' ');
  std::ifstream in(file, std::ios::binary);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  return text.find("\"qwbcalib\"") != std::string::npos;
}

CalibrationSet load_calibration_set(const Path& file, const Tokenizer& tokenizer) {
  const std::string where = file.string();
  const Json json = parse_json(read_text(file, kLargestFile), where);
  if (json_string(json, "format", where, "") != "qwbcalib")
    damaged("is no saved calibration set", where);
  if (json_int(json, "version", where) != kVersion) {
    throw Error(ErrorKind::unsupported,
                "version " + std::to_string(json_int(json, "version", where)), where,
                "save the calibration set again with this qwb");
  }
  if (!json_has(json, "manifest") || !json_has(json, "windows") || !json.at("windows").is_array() ||
      json.at("windows").empty()) {
    damaged("has no manifest or no windows", where);
  }
  CalibrationSet set;
  set.manifest = json.at("manifest");
  set.name = json_string(set.manifest, "name", where);
  set.hash = json_string(set.manifest, "hash", where);
  set.length = json_int(set.manifest, "length", where);
  if (set.length < 2) damaged("'length' is not usable", where);
  if (json_string(set.manifest, "tokenizer", where) != tokenizer.content_hash()) {
    throw Error(ErrorKind::usage, "the calibration set was made with another tokenizer", where,
                "make it again from its texts: --calib " + set.name);
  }
  for (const Json& entry : json.at("windows")) {
    set.windows.push_back(read_window(
        entry, set.length, where + ": window " + std::to_string(set.windows.size() + 1)));
  }
  if (windows_hash(set.windows) != set.hash)
    damaged("the tokens are not those that were saved", where);
  return set;
}

}  // namespace qwb
