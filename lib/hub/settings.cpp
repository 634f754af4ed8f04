#include "lib/hub/settings.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <initializer_list>

#include "lib/base/error.h"
#include "lib/hub/url.h"

namespace qwb::hub {
namespace {

// The first of these variables that is set to something.
std::string environment(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') return value;
  }
  return {};
}

bool environment_flag(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    std::string value = environment({name});
    std::transform(value.begin(), value.end(), value.begin(),
                   [](char c) { return std::toupper(c); });
    if (value == "1" || value == "ON" || value == "YES" || value == "TRUE") return true;
  }
  return false;
}

double environment_seconds(const char* name, double fallback) {
  const std::string text = environment({name});
  if (text.empty()) return fallback;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0' || !(value >= 0) || value > 1e6)
    throw Error(ErrorKind::usage, "not a number of seconds: '" + text + "'", name);
  return value;
}

Path expand_home(const std::string& path) {
  if (path == "~" || path.starts_with("~/")) return environment({"HOME"}) + path.substr(1);
  return path;
}

Path hub_home() {
  if (const std::string home = environment({"HF_HOME"}); !home.empty()) return expand_home(home);
  if (const std::string cache = environment({"XDG_CACHE_HOME"}); !cache.empty())
    return expand_home(cache) / "huggingface";
  return expand_home("~/.cache") / "huggingface";
}

std::string stored_token(const Path& file) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return {};
  try {
    return read_text(file, 64 << 10);
  } catch (const Error&) {  // not ours to read: as if there were none
    return {};
  }
}

void find_token(HubSettings& settings) {
  settings.token = clean_token(environment({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}));
  settings.token_place = "HF_TOKEN";
  if (!settings.token.empty() || environment_flag({"HF_HUB_DISABLE_IMPLICIT_TOKEN"})) return;
  settings.token = clean_token(stored_token(settings.token_file));
  settings.token_place = settings.token_file.string();
}

}  // namespace

std::string clean_token(const std::string& text) {
  const char* blanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string::npos) return {};
  std::string token = text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
  const bool good = token.size() <= 4096 && std::all_of(token.begin(), token.end(),
                                                        [](char c) { return c > 32 && c < 127; });
  if (!good)
    throw Error(ErrorKind::usage, "the token has characters that no token has", "HF_TOKEN");
  return token;
}

HubSettings HubSettings::from_environment() {
  HubSettings settings;
  if (std::string endpoint = environment({"HF_ENDPOINT"}); !endpoint.empty()) {
    while (endpoint.ends_with('/')) endpoint.pop_back();
    settings.endpoint = endpoint;
  }
  try {
    Url::parse(settings.endpoint);
  } catch (const Error& error) {
    throw Error(ErrorKind::usage, error.what(), "HF_ENDPOINT");
  }
  const Path home = hub_home();
  const std::string cache = environment({"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
  settings.cache = cache.empty() ? home / "hub" : expand_home(cache);
  const std::string token_file = environment({"HF_TOKEN_PATH"});
  settings.token_file = token_file.empty() ? home / "token" : expand_home(token_file);
  find_token(settings);
  settings.offline = environment_flag({"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"});
  settings.symlinks = !environment_flag({"HF_HUB_DISABLE_SYMLINKS"});
  settings.ca_file = environment({"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"});
  settings.connect_seconds = environment_seconds("HF_HUB_ETAG_TIMEOUT", settings.connect_seconds);
  settings.stall_seconds = environment_seconds("HF_HUB_DOWNLOAD_TIMEOUT", settings.stall_seconds);
  settings.backoff_seconds = environment_seconds("QWB_HUB_BACKOFF", settings.backoff_seconds);
  settings.lock_patience = environment_seconds("QWB_HUB_LOCK_PATIENCE", settings.lock_patience);
  return settings;
}

void store_token(const HubSettings& settings, const std::string& token) {
  const Path& file = settings.token_file;
  std::error_code error;
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), error);
  if (error) throw system_error("cannot create folder", file.parent_path().string(), error.value());
  // Created with its final mode: a chmod after the fact would leave an instant in which others
  // could read.
  const Path temporary = temporary_sibling(file);
  const int fd =
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) throw system_error("cannot create", temporary.string(), errno);
  const bool written =
      ::write(fd, token.data(), token.size()) == static_cast<ssize_t>(token.size()) &&
      ::fsync(fd) == 0;
  int reason = errno;
  ::close(fd);
  if (written && ::rename(temporary.c_str(), file.c_str()) == 0) return;
  if (written) reason = errno;
  ::unlink(temporary.c_str());
  throw system_error("cannot write", file.string(), reason);
}

}  // namespace qwb::hub
