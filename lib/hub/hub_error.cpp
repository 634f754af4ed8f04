#include "lib/hub/hub_error.h"

#include <algorithm>

#include "lib/base/json.h"
#include "lib/hub/retry.h"

namespace qwb::hub {
namespace {

// The server's own words: from its header, else from a JSON body. One printable line, and never the
// token, which a server might echo.
std::string server_words(const HubSettings& settings, const HttpHead& head,
                         const std::string& body) {
  std::string words = head.field("x-error-message");
  if (words.empty()) {
    const Json json = Json::parse(body, nullptr, false);
    if (json.is_object() && json.contains("error") && json["error"].is_string())
      words = json["error"];
  }
  if (!settings.token.empty()) {
    for (size_t at = words.find(settings.token); at != std::string::npos;
         at = words.find(settings.token))
      words.replace(at, settings.token.size(), "***");
  }
  std::replace_if(
      words.begin(), words.end(), [](char c) { return c < 32 || c == 127; }, ' ');
  return words.substr(0, 200);
}

std::string quoted(const std::string& words) {
  return words.empty() ? "" : "; the server says: " + words;
}

struct Answer {
  const HubSettings& settings;
  const RepoName& repo;
  std::string page;  // of the repository, for the browser
  std::string code;  // X-Error-Code
  std::string words;
  std::string kind;  // "model", "data set"
  std::string file;  // the last part of the URL

  Error gated() const {
    if (settings.token.empty()) {
      return Error(
          ErrorKind::not_found, "this " + kind + " is gated and there is no token", repo.text(),
          "accept its licence at " + page + ", then set HF_TOKEN or run `qwb-pull --login`");
    }
    return Error(
        ErrorKind::not_found,
        "this " + kind + " is gated and the token's account (" + settings.token_place +
            ") has no access to it" + quoted(words),
        repo.text(),
        "accept its licence at " + page + " and wait until access is granted, then try again");
  }

  Error unauthorized() const {
    if (words.find("Invalid credentials") != std::string::npos ||
        (!settings.token.empty() && code.empty() && words.empty())) {
      return Error(ErrorKind::not_found,
                   "the Hub does not accept the token of " + settings.token_place, repo.text(),
                   "make a new one at " + settings.endpoint +
                       "/settings/tokens, then set HF_TOKEN or run `qwb-pull --login`");
    }
    if (code == "GatedRepo") return gated();
    const std::string hidden = settings.token.empty()
                                   ? "if it is private or gated, accept its licence at " + page +
                                         ", then set HF_TOKEN or run `qwb-pull --login`"
                                   : "if it is private, use a token of an account that may read it";
    return Error(ErrorKind::not_found,
                 "there is no such " + kind + " on the Hub, or it is not public", repo.text(),
                 "check the spelling; " + hidden);
  }

  Error forbidden() const {
    if (code == "GatedRepo" || words.find("gated") != std::string::npos ||
        words.find("restricted") != std::string::npos)
      return gated();
    if (words.find("disabled") != std::string::npos)
      return Error(ErrorKind::not_found, "this " + kind + " is disabled on the Hub" + quoted(words),
                   repo.text());
    return Error(ErrorKind::not_found,
                 settings.token.empty()
                     ? "access is refused without a token" + quoted(words)
                     : "the token of " + settings.token_place + " lacks permission" + quoted(words),
                 repo.text(),
                 "accept the licence at " + page +
                     " if there is one; the token must be allowed to read this repository (" +
                     settings.endpoint + "/settings/tokens)");
  }

  Error missing() const {
    if (code == "RevisionNotFound")
      return Error(ErrorKind::not_found, "the " + kind + " has no revision '" + repo.revision + "'",
                   repo.id, "see " + page + "/tree/main for its branches and tags");
    if (code == "EntryNotFound")
      return Error(ErrorKind::not_found, "there is no file '" + file + "' at this revision",
                   repo.text(), "see " + page + "/tree/main for its files");
    if (code == "RepoNotFound" || code.empty())
      return Error(
          ErrorKind::not_found, "there is no such " + kind + " on the Hub" + quoted(words),
          repo.text(),
          settings.token.empty()
              ? "check the spelling; if it is private, set HF_TOKEN or run `qwb-pull --login`"
              : "check the spelling, and whether the token's account may see it");
    return Error(ErrorKind::not_found, "not found on the Hub (" + code + ")" + quoted(words),
                 repo.text());
  }
};

}  // namespace

Error hub_error(const HubSettings& settings, const RepoName& repo, const Url& url,
                const HttpHead& head, const std::string& body) {
  std::string code = head.field("x-error-code").substr(0, 40);
  std::erase_if(code, [](unsigned char c) { return std::isalnum(c) == 0; });
  const std::string path = url.shown();
  const Answer answer{settings,
                      repo,
                      settings.endpoint + repo.page_path(),
                      code,
                      server_words(settings, head, body),
                      repo.kind == RepoKind::model ? "model" : "data set",
                      path.substr(path.rfind('/') + 1)};
  const int status = head.status;
  if (status == 401) return answer.unauthorized();
  if (status == 403) return answer.forbidden();
  if (status == 404 || status == 410 || status == 451) return answer.missing();
  const std::string number = std::to_string(status);
  if (status == 429)
    return Error(
        ErrorKind::not_found, "the Hub takes no more requests for now (429)" + quoted(answer.words),
        path,
        "try again later" +
            std::string(settings.token.empty() ? ", or with a token, which raises the limit" : ""));
  if (is_passing(status))
    return Error(ErrorKind::not_found,
                 "the server is in trouble (" + number + ")" + quoted(answer.words), path,
                 "try again later; what was downloaded is kept");
  return Error(ErrorKind::failed, "the server answers " + number + quoted(answer.words), path);
}

Error connection_error(const Url& url, const HttpEnd& end) {
  const std::string where = url.shown();
  switch (end.kind) {
    case HttpEnd::Kind::untrusted:
      return Error(
          ErrorKind::failed, "the server's certificate is not trusted: " + end.reason, where,
          "if a proxy or a mirror has a certificate of its own, name its CA file in SSL_CERT_FILE");
    case HttpEnd::Kind::unreachable:
      return Error(ErrorKind::not_found, "cannot reach the server: " + end.reason, where,
                   "check the network, HF_ENDPOINT and the proxy settings");
    case HttpEnd::Kind::stalled:
      return Error(ErrorKind::not_found, "the transfer stalled: " + end.reason, where,
                   "try again later; what was downloaded is kept; HF_HUB_DOWNLOAD_TIMEOUT sets how "
                   "long is too long");
    default:
      return Error(ErrorKind::not_found, "the connection broke: " + end.reason, where,
                   "try again; what was downloaded is kept");
  }
}

}  // namespace qwb::hub
