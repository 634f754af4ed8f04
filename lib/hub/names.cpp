#include "lib/hub/names.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>

#include "lib/base/error.h"
#include "lib/base/json.h"

namespace qwb::hub {
namespace {

constexpr size_t kLongestName = 96;
constexpr size_t kLongestPath = 1024;
constexpr size_t kLongestComponent = 255;

bool is_name_part(const std::string& part) {
  if (part.empty() || part.size() > kLongestName || part.ends_with(".git")) return false;
  if (part.find("--") != std::string::npos || part.find("..") != std::string::npos) return false;
  const auto at_edge = [](char c) { return c == '-' || c == '.'; };
  if (at_edge(part.front()) || at_edge(part.back())) return false;
  return std::all_of(part.begin(), part.end(), [](char c) {
    return (std::isalnum(static_cast<unsigned char>(c)) != 0 &&
            static_cast<unsigned char>(c) < 128) ||
           c == '_' || c == '.' || c == '-';
  });
}

std::vector<std::string> components(const std::string& path) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (;;) {
    const size_t end = path.find('/', begin);
    parts.push_back(path.substr(begin, end == std::string::npos ? end : end - begin));
    if (end == std::string::npos) return parts;
    begin = end + 1;
  }
}

// Names that are devices on Windows, with any extension and in any case.
bool is_reserved(const std::string& component) {
  std::string stem = component.substr(0, component.find('.'));
  std::transform(stem.begin(), stem.end(), stem.begin(),
                 [](unsigned char c) { return std::toupper(c); });
  static const std::array<std::string, 4> devices = {"CON", "PRN", "AUX", "NUL"};
  if (std::find(devices.begin(), devices.end(), stem) != devices.end()) return true;
  return stem.size() == 4 && (stem.starts_with("COM") || stem.starts_with("LPT")) &&
         stem[3] >= '1' && stem[3] <= '9';
}

// Why a path must not be used; null: it may.
const char* fault_of(const std::string& path) {
  if (path.empty()) return "is empty";
  if (path.size() > kLongestPath) return "is longer than 1024 bytes";
  if (path.front() == '/') return "is absolute";
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < 32 || c == 127) return "has a control character";
    if (c == '\\') return "has a backslash";
  }
  if (path.size() > 1 && path[1] == ':') return "begins with a drive";
  for (const std::string& part : components(path)) {
    if (part.empty()) return "has an empty component";
    if (part == "." || part == "..") return "has a '.' or '..' component";
    if (part.size() > kLongestComponent) return "has a component longer than 255 bytes";
    std::string lower = part;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    if (lower == ".git") return "has a '.git' component";
    if (is_reserved(part)) return "has a reserved name";
  }
  return nullptr;
}

bool is_revision(const std::string& revision) {
  return fault_of(revision) == nullptr && revision.find('@') == std::string::npos &&
         revision.size() <= 250 && revision.find(' ') == std::string::npos;
}

// Quoted, with control characters spelled out and an end.
std::string shown(const std::string& path) {
  return Json(path.substr(0, 200)).dump(-1, ' ', true, Json::error_handler_t::replace);
}

}  // namespace

std::string RepoName::text() const {
  return revision == "main" ? id : id + "@" + revision;
}

std::string RepoName::folder() const {
  std::string name = kind == RepoKind::model ? "models--" : "datasets--";
  for (const char c : id) {
    if (c == '/') {
      name += "--";
    } else {
      name += c;
    }
  }
  return name;
}

std::string RepoName::api_path() const {
  return (kind == RepoKind::model ? "/api/models/" : "/api/datasets/") + id;
}

std::string RepoName::page_path() const {
  return (kind == RepoKind::model ? "/" : "/datasets/") + id;
}

bool RepoName::is_commit() const {
  return is_hex(revision, 40);
}

bool is_repo_name(const std::string& text) {
  const size_t at = text.find('@');
  const std::string id = text.substr(0, at);
  if (at != std::string::npos && !is_revision(text.substr(at + 1))) return false;
  const size_t slash = id.find('/');
  if (slash == std::string::npos) return is_name_part(id);
  return is_name_part(id.substr(0, slash)) && is_name_part(id.substr(slash + 1));
}

RepoName parse_repo(const std::string& text, RepoKind kind) {
  if (!is_repo_name(text)) {
    throw Error(
        ErrorKind::usage, "'" + text + "' is no name of a repository on the Hub", {},
        "names look like mistralai/Mistral-7B-v0.1 or gpt2, with @REVISION behind if wanted");
  }
  RepoName repo;
  repo.kind = kind;
  const size_t at = text.find('@');
  repo.id = text.substr(0, at);
  if (at != std::string::npos) repo.revision = text.substr(at + 1);
  return repo;
}

namespace {

Error hostile(const std::string& what, const std::string& path, const std::string& where) {
  return Error(ErrorKind::verification, "the server lists a file " + what + ": " + shown(path),
               where, "nothing was written; this server cannot be trusted");
}

}  // namespace

void check_file_name(const std::string& path, const std::string& where) {
  if (const char* fault = fault_of(path))
    throw hostile("whose name " + std::string(fault), path, where);
}

void check_file_names(const std::vector<RemoteFile>& files, const std::string& where) {
  std::set<std::string> names;
  for (const RemoteFile& file : files) {
    check_file_name(file.path, where);
    if (!names.insert(file.path).second) throw hostile("twice", file.path, where);
  }
  for (const RemoteFile& file : files) {
    for (size_t slash = file.path.find('/'); slash != std::string::npos;
         slash = file.path.find('/', slash + 1)) {
      if (names.contains(file.path.substr(0, slash)))
        throw hostile("below another file", file.path, where);
    }
  }
}

bool is_hex(const std::string& text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace qwb::hub
