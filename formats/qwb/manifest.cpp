#include <algorithm>
#include <cmath>
#include <set>

#include "formats/qwb/artifact.h"
#include "lib/codec/registry.h"

namespace qwb {
namespace {

constexpr int64_t kMaxExtent = int64_t{1} << 31;

[[noreturn]] void damaged(const std::string& what, const std::string& where) {
  throw Error(ErrorKind::failed, what, where, "the artifact is damaged; make it again");
}

const Json& object_of(const Json& json, const char* key, const std::string& where) {
  if (!json_has(json, key) || !json.at(key).is_object())
    damaged(std::string("'") + key + "' must be an object", where);
  return json.at(key);
}

Orientation parse_orientation(const std::string& text, const std::string& where) {
  if (text == "out_in") return Orientation::out_in;
  if (text == "in_out") return Orientation::in_out;
  throw Error(ErrorKind::unsupported, "unknown orientation '" + text + "'", where,
              "a newer qwb may have written it");
}

int64_t extent(const Json& entry, const char* key, const std::string& where) {
  const int64_t value = json_int(entry, key, where);
  if (value < 1 || value > kMaxExtent)
    damaged(std::string("'") + key + "' is not a usable size", where);
  return value;
}

ManifestModule parse_module(const Json& entry, const std::string& file) {
  ManifestModule record;
  record.name = json_string(entry, "name", file + ": modules");
  const std::string where = file + ": module '" + record.name.substr(0, 200) + "'";
  if (record.name.empty()) damaged("a module without a name", where);
  record.codec = json_string(entry, "codec", where);
  find_codec(record.codec, where);
  record.shape = {extent(entry, "out", where), extent(entry, "in", where),
                  parse_orientation(json_string(entry, "orientation", where), where)};
  record.parameters = Json::object();
  for (const auto& [name, value] : object_of(entry, "parameters", where).items()) {
    // Within what a float holds: a reader may narrow it.
    if (!value.is_number() || !(std::abs(value.get<double>()) < 1e38))
      damaged("parameter '" + name + "' is not a usable number", where);
    record.parameters[name] = value;
  }
  if (json_has(entry, "method")) json_string(entry, "method", where);
  if (json_has(entry, "settings")) object_of(entry, "settings", where);
  if (!json_has(entry, "parts") || !entry.at("parts").is_array())
    damaged("'parts' must be a list", where);
  for (const Json& part : entry.at("parts")) {
    if (!part.is_string()) damaged("'parts' must hold names", where);
    const auto name = part.get<std::string>();
    if (std::find(record.parts.begin(), record.parts.end(), name) != record.parts.end())
      damaged("part '" + name + "' appears twice", where);
    record.parts.push_back(name);
  }
  return record;
}

}  // namespace

Json tidy_number(double value) {
  if (value == std::floor(value) && std::abs(value) < 0x1p53 &&
      !(value == 0 && std::signbit(value)))
    return static_cast<int64_t>(value);
  return value;
}

Json size_json(int64_t weights, int64_t bytes) {
  return {{"weights", weights},
          {"bytes", bytes},
          {"bpw", weights == 0
                      ? Json(nullptr)
                      : Json(8.0 * static_cast<double>(bytes) / static_cast<double>(weights))}};
}

Json module_entry(const std::string& name, const WeightLayout& layout) {
  Json parameters = layout.encoding->parameters(), parts = Json::array();
  for (Json& value : parameters) value = tidy_number(value.get<double>());
  for (const PartSpec& part : layout.specs()) parts.push_back(part.name);
  return {{"name", name},
          {"codec", layout.codec()},
          {"out", layout.out},
          {"in", layout.in},
          {"orientation", layout.orientation == Orientation::out_in ? "out_in" : "in_out"},
          {"parameters", parameters},
          {"parts", parts},
          {"bits", layout.code_bits()},
          {"bytes", layout.bytes()},
          {"bpw", size_json(checked_mul(layout.out, layout.in, name), layout.bytes())["bpw"]}};
}

std::string artifact_method(const Json& manifest) {
  std::string typical = json_string(manifest, "method", "qwb.json");
  for (const Json& module : manifest.at("modules")) {
    if (json_string(module, "method", "qwb.json: modules", typical) != typical) return "mixed";
  }
  return typical;
}

ArtifactManifest parse_artifact_manifest(std::string_view text, const std::string& where) {
  ArtifactManifest manifest;
  manifest.json = parse_json(text, where);
  const Json& json = manifest.json;
  const int64_t version = json_int(json, "format_version", where);
  if (version != kArtifactVersion) {
    throw Error(ErrorKind::unsupported, "artifact format version " + std::to_string(version), where,
                "this build reads version " + std::to_string(kArtifactVersion) +
                    "; use the qwb that wrote it, or make it again");
  }
  json_string(json, "method", where);
  json_int(json, "method_version", where);
  object_of(json, "settings", where);
  object_of(json, "source", where);
  if (!json_has(json, "modules") || !json.at("modules").is_array())
    damaged("'modules' must be a list", where);
  std::set<std::string> names;
  for (const Json& entry : json.at("modules")) {
    manifest.modules.push_back(parse_module(entry, where));
    if (!names.insert(manifest.modules.back().name).second)
      damaged("module '" + manifest.modules.back().name + "' appears twice", where);
  }
  return manifest;
}

}  // namespace qwb
