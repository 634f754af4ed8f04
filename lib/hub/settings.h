// Settings of the Hugging Face Hub from the environment: the variables that huggingface_hub reads,
// with its defaults, so that both agree on the place of the cache and of the token.
#pragma once

#include <string>

#include "lib/base/file.h"

namespace qwb::hub {

struct HubSettings {
  std::string endpoint = "https://huggingface.co";  // HF_ENDPOINT, without a final '/'
  Path cache;         // HF_HUB_CACHE, else $HF_HOME/hub (HF_HOME: else $XDG_CACHE_HOME/huggingface)
  Path token_file;    // HF_TOKEN_PATH, else $HF_HOME/token
  std::string token;  // HF_TOKEN, else the content of token_file; empty: none
  std::string token_place;  // where it came from, for messages
  bool offline = false;     // HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE: no request at all
  bool symlinks = true;  // false with HF_HUB_DISABLE_SYMLINKS: snapshots hold the files themselves
  std::string ca_file;   // SSL_CERT_FILE, CURL_CA_BUNDLE or REQUESTS_CA_BUNDLE; empty: the system's

  double connect_seconds = 10;  // HF_HUB_ETAG_TIMEOUT: to reach the host
  double stall_seconds =
      10;  // HF_HUB_DOWNLOAD_TIMEOUT: a transfer that brings nothing that long is dead
  double backoff_seconds =
      1;  // QWB_HUB_BACKOFF: the first wait between retries, doubled up to eight times
  double lock_patience =
      60;  // QWB_HUB_LOCK_PATIENCE: then another process that makes no headway is passed by
  int attempts = 6;     // tries that bring nothing new, before giving up
  int connections = 8;  // at once

  // Throws usage for an endpoint that is no http(s) URL and for a token with characters that no
  // token has.
  static HubSettings from_environment();
};

// A token as it is used and stored: without blanks and line ends around it. Throws usage, without
// showing it, if anything but printable ASCII is left. Empty stays empty.
std::string clean_token(const std::string& text);

// Stores the token where huggingface_hub looks for it, readable by its owner alone (0600) at every
// instant.
void store_token(const HubSettings& settings, const std::string& token);

}  // namespace qwb::hub
