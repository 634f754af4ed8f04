#include "tools/common/version.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <openssl/crypto.h>
#include <sys/utsname.h>
#include <unicode/uchar.h>
#include <xxhash.h>
#include <zip.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <hwy/highway.h>
#include <pcre2.h>
#include <qwb_commit.h>  // by commit.cmake

#include <CLI/Version.hpp>
#include <nlohmann/json.hpp>
#include <oneapi/dnnl/dnnl.hpp>

#include "lib/exec/cpu/isa.h"
#include "lib/exec/cpu/tile_product.h"

namespace qwb {
namespace {

std::string dotted(int major, int minor, int patch) {
  return fmt::format("{}.{}.{}", major, minor, patch);
}

std::string pcre2_version() {
  char text[64] = {};
  pcre2_config(PCRE2_CONFIG_VERSION, text);
  const std::string version = text;  // "10.42 2022-12-11"
  return version.substr(0, version.find(' '));
}

std::string icu_version() {
  UVersionInfo version;
  char text[U_MAX_VERSION_STRING_LENGTH];
  u_getVersion(version);
  u_versionToString(version, text);
  return text;
}

// Those that are loaded tell for themselves, those of headers alone as they were compiled.
Json library_versions() {
  const dnnl_version_t& dnn = *dnnl_version();
  return {{"oneDNN", dotted(dnn.major, dnn.minor, dnn.patch)},
          {"Highway", dotted(HWY_MAJOR, HWY_MINOR, HWY_PATCH)},
          {"PCRE2", pcre2_version()},
          {"ICU", icu_version()},
          {"libcurl", curl_version_info(CURLVERSION_NOW)->version},
          {"OpenSSL", OpenSSL_version(OPENSSL_VERSION_STRING)},
          {"libzip", zip_libzip_version()},
          {"xxHash", dotted(XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE)},
          {"nlohmann/json", dotted(NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                                   NLOHMANN_JSON_VERSION_PATCH)},
          {"fmt", dotted(FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
          {"CLI11", CLI11_VERSION},
          {"OpenMP", fmt::format("{}", _OPENMP)},
          {"glibc", gnu_get_libc_version()}};
}

Json build_facts() {
  return {{"type", QWB_BUILD_TYPE},
          {"compiler", QWB_COMPILER},
          {"flags", QWB_BUILD_FLAGS},
          {"for", QWB_SYSTEM}};
}

std::string running_system() {
  utsname names{};
  if (uname(&names) != 0) return "unknown";
  return fmt::format("{} {} {}", names.sysname, names.release, names.machine);
}

Json instruction_sets() {
  const std::string bf16 = bf16_units();
  return {{"built_for", built_isas()},
          {"available", available_isas()},
          {"in_use", isa_name()},
          {"bf16_products", bf16.empty() ? Json(nullptr) : Json(bf16)}};
}

std::string words(const Json& list) {
  std::string text;
  for (const Json& word : list) text += (text.empty() ? "" : ", ") + word.get<std::string>();
  return text;
}

}  // namespace

std::string version_number() {
  return QWB_VERSION;
}

std::string version_date() {
  return QWB_COMMIT_DATE;
}

std::string version_line(const std::string& name) {
  return fmt::format("{} {} (isa {})", name, QWB_VERSION, isa_name());
}

Json version_json(const std::string& name) {
  const auto known = [](const std::string& text) {
    return text.empty() ? Json(nullptr) : Json(text);
  };
  return {{"schema", 1},
          {"name", name},
          {"version", QWB_VERSION},
          {"commit", known(QWB_COMMIT)},
          {"commit_date", known(QWB_COMMIT_DATE)},
          {"build", build_facts()},
          {"running_on", running_system()},
          {"instruction_sets", instruction_sets()},
          {"libraries", library_versions()}};
}

std::string version_text(const std::string& name) {
  const Json facts = version_json(name);
  const Json &build = facts.at("build"), &sets = facts.at("instruction_sets");
  const std::string commit = QWB_COMMIT, flags = build.at("flags");
  std::string text = fmt::format("{} {} ({}isa {})\n", name, QWB_VERSION,
                                 commit.empty() ? "" : "commit " + commit + ", ", isa_name());
  text += fmt::format("build: {}, {}, for {}{}\n", build.at("type").get<std::string>(),
                      build.at("compiler").get<std::string>(), build.at("for").get<std::string>(),
                      flags.empty() ? "" : ", flags " + flags);
  text += fmt::format("running on: {}\n", facts.at("running_on").get<std::string>());
  text += fmt::format(
      "instruction sets: built for {}; available here {}; in use {}; products of bf16 by {}\n",
      words(sets.at("built_for")), words(sets.at("available")), isa_name(),
      sets.at("bf16_products").is_null() ? "none" : sets.at("bf16_products").get<std::string>());
  std::string libraries;
  for (const auto& [library, version] : facts.at("libraries").items())
    libraries += (libraries.empty() ? "" : ", ") + library + " " + version.get<std::string>();
  return text + "libraries: " + libraries + "\n";
}

}  // namespace qwb
