#include "tests/hub/fake_hub_helper.h"

#include <httplib.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "lib/base/json.h"
#include "tests/hub/certificate_helper.h"

namespace qwb::testing {
namespace {

constexpr int64_t kChunk = 64 << 10;

bool starts(const std::string& text, const std::string& with) {
  return text.rfind(with, 0) == 0;
}

std::string decode(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      result += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      result += text[i];
    }
  }
  return result;
}

void fail(httplib::Response& response, int status, const std::string& code,
          const std::string& message) {
  response.status = status;
  if (!code.empty()) response.set_header("X-Error-Code", code);
  response.set_header("X-Error-Message", message);
  response.set_content(Json({{"error", message}}).dump(), "application/json");
}

bool is_revision_of(const FakeRepo& repo, const std::string& revision) {
  return revision == "main" || revision == repo.commit || repo.refs.count(revision) != 0;
}

// "bytes=5-9" or "bytes=5-".
bool parse_range(const std::string& field, int64_t size, int64_t& first, int64_t& last) {
  if (!starts(field, "bytes=")) return false;
  const size_t dash = field.find('-');
  first = std::stoll(field.substr(6, dash - 6));
  last = dash + 1 < field.size() ? std::min<int64_t>(std::stoll(field.substr(dash + 1)), size - 1)
                                 : size - 1;
  return true;
}

}  // namespace

FakeHub::FakeHub(Settings settings)
    : settings_(std::move(settings)), rate_(settings_.bytes_per_second) {
  if (settings_.tls) {
    make_certificate(settings_.folder, "127.0.0.1");
    hub_ = std::make_unique<httplib::SSLServer>((settings_.folder + "/cert.pem").c_str(),
                                                (settings_.folder + "/key.pem").c_str());
  } else {
    hub_ = std::make_unique<httplib::Server>();
  }
  store_ = std::make_unique<httplib::Server>();
  for (auto& [host, server] : {std::pair("hub", hub_.get()), std::pair("storage", store_.get())}) {
    server->new_task_queue = [] { return new httplib::ThreadPool(24); };
    server->set_keep_alive_max_count(100000);
    server->set_keep_alive_timeout(2);
    server->set_tcp_nodelay(true);
    server->set_socket_options([size = settings_.send_buffer](auto socket) {
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
      if (size > 0) setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    });
    const auto handler = [this, name = std::string(host)](const httplib::Request& request,
                                                          httplib::Response& response) {
      handle(name, request, response);
    };
    server->Get(".*", handler);
    server->Post(".*", handler);
  }
  hub_port_ = hub_->bind_to_any_port("127.0.0.1");
  store_port_ = store_->bind_to_any_port("127.0.0.1");
  if (hub_port_ <= 0 || store_port_ <= 0)
    throw std::runtime_error("cannot bind to a port of 127.0.0.1");
  hub_thread_ = std::thread([this] { hub_->listen_after_bind(); });
  store_thread_ = std::thread([this] { store_->listen_after_bind(); });
  while (!hub_->is_running() || !store_->is_running()) std::this_thread::yield();
}

FakeHub::~FakeHub() {
  stopping_ = true;
  hub_->stop();
  store_->stop();
  hub_thread_.join();
  store_thread_.join();
}

std::string FakeHub::endpoint() const {
  return (settings_.tls ? "https://127.0.0.1:" : "http://127.0.0.1:") + std::to_string(hub_port_);
}

std::string FakeHub::storage() const {
  return "http://localhost:" + std::to_string(store_port_);
}

FakeRepo& FakeHub::add(const std::string& id, const std::string& kind) {
  const std::lock_guard lock(mutex_);
  FakeRepo& repo = repos_.emplace_back();
  repo.id = id;
  repo.kind = kind;
  return repo;
}

void FakeHub::misbehave(Mishap mishap) {
  const std::lock_guard lock(mutex_);
  mishaps_.push_back(std::move(mishap));
}

void FakeHub::behave() {
  const std::lock_guard lock(mutex_);
  mishaps_.clear();
}

void FakeHub::change(const std::function<void()>& action) {
  const std::lock_guard lock(mutex_);
  action();
}

std::vector<SeenRequest> FakeHub::seen() const {
  const std::lock_guard lock(mutex_);
  return seen_;
}

int FakeHub::count(const std::string& text) const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(std::count_if(seen_.begin(), seen_.end(), [&](const SeenRequest& r) {
    return r.target.find(text) != std::string::npos;
  }));
}

void FakeHub::forget_requests() {
  const std::lock_guard lock(mutex_);
  seen_.clear();
}

const FakeRepo* FakeHub::repo_of(const std::string& kind, const std::string& id) const {
  for (const FakeRepo& repo : repos_) {
    if (repo.kind == kind && repo.id == id) return &repo;
  }
  return nullptr;
}

Mishap FakeHub::next_mishap(const std::string& target, bool get) {
  for (Mishap& mishap : mishaps_) {
    if (mishap.times == 0 || (mishap.only_get && !get) ||
        target.find(mishap.match) == std::string::npos)
      continue;
    if (mishap.times > 0) --mishap.times;
    return mishap;
  }
  return {};
}

void FakeHub::handle(const std::string& host, const httplib::Request& request,
                     httplib::Response& response) {
  // httplib would apply ranges itself; here the file's range is the body.
  const_cast<httplib::Request&>(request).ranges.clear();
  const std::lock_guard lock(mutex_);
  const std::string& target = request.target;
  seen_.push_back({host, request.method, target, request.get_header_value("Authorization"),
                   request.get_header_value("Range")});
  const Mishap mishap = next_mishap(target, request.method == "GET");
  if (mishap.also) mishap.also();
  if (mishap.status != 0) {
    response.status = mishap.status;
    for (const auto& [name, value] : mishap.fields)
      response.set_header(name.c_str(), value.c_str());
    response.set_content(mishap.body, "text/plain");
    return;
  }
  if (host == "hub" && starts(target, "/api/")) {
    answer_api(target, request, response);
  } else if (host == "hub") {
    answer_resolve(target, request, response, mishap);
  } else {
    const std::string name = target.substr(0, target.find('?'));
    for (const FakeRepo& repo : repos_) {
      for (const FakeFile& file : repo.files) {
        if (name != "/blob/" + file.etag) continue;
        response.set_header("ETag", "\"storage-" + file.etag.substr(0, 8) + "\"");
        return send_file(file, request, response, mishap);
      }
    }
    response.status = 403;
  }
}

bool FakeHub::may_read(const FakeRepo& repo, const httplib::Request& request,
                       httplib::Response& response, bool content) const {
  const std::string field = request.get_header_value("Authorization");
  const std::string token = starts(field, "Bearer ") ? field.substr(7) : "";
  const bool known =
      token == repo.allowed_token ||
      std::find(known_tokens.begin(), known_tokens.end(), token) != known_tokens.end();
  if (!token.empty() && !known) {
    fail(response, 401, "", "Invalid credentials in Authorization header");
    return false;
  }
  if (repo.allowed_token.empty() || token == repo.allowed_token || (!content && !repo.hidden))
    return true;
  if (repo.hidden) {
    fail(response, token.empty() ? 401 : 404, "RepoNotFound", "Repository not found");
  } else {
    fail(response, token.empty() ? 401 : 403, "GatedRepo",
         "Access to model " + repo.id +
             " is restricted. You must have access to it and be authenticated to access it.");
  }
  return false;
}

// /api/models/ORG/NAME[/revision/REV | /tree/REV?...], /api/whoami-v2
void FakeHub::answer_api(const std::string& target, const httplib::Request& request,
                         httplib::Response& response) {
  const size_t question = target.find('?');
  std::string rest = target.substr(5, question - 5);
  const std::string query = question == std::string::npos ? "" : target.substr(question + 1);
  if (rest == "whoami-v2") {
    const std::string field = request.get_header_value("Authorization");
    for (const std::string& token : known_tokens) {
      if (field == "Bearer " + token)
        return response.set_content(R"({"name": "tester"})", "application/json");
    }
    return fail(response, 401, "", "Invalid credentials in Authorization header");
  }
  const std::string kind = rest.substr(0, rest.find('/'));
  rest.erase(0, kind.size() + 1);
  std::string what, folder, revision = "main";
  for (const char* word : {"/revision/", "/tree/"}) {
    const size_t at = rest.find(word);
    if (at == std::string::npos) continue;
    what = word;
    revision = rest.substr(at + what.size());
    folder = revision.find('/') != std::string::npos
                 ? decode(revision.substr(revision.find('/') + 1)) + "/"
                 : "";
    revision = decode(revision.substr(0, revision.find('/')));
    rest.resize(at);
    break;
  }
  const FakeRepo* repo = repo_of(kind, rest);
  if (repo == nullptr || (what == "/tree/" && !settings_.has_tree)) {
    const bool anonymous = request.get_header_value("Authorization").empty();
    if (repo != nullptr) return fail(response, 404, "", "Not Found");
    return fail(response, anonymous ? 401 : 404, "RepoNotFound", "Repository not found");
  }
  if (!may_read(*repo, request, response, false)) return;
  if (!is_revision_of(*repo, revision))
    return fail(response, 404, "RevisionNotFound", "Invalid rev id: " + revision);
  if (what == "/tree/" && !folder.empty() &&
      std::none_of(repo->files.begin(), repo->files.end(),
                   [&](const FakeFile& f) { return starts(f.path, folder); }))
    return fail(response, 404, "EntryNotFound", "Entry not found");
  if (what == "/tree/") return answer_tree(*repo, query, response);
  Json json = {{"id", repo->id},
               {"sha", repo->commit},
               {"private", repo->hidden},
               {"siblings", Json::array()}};
  for (const FakeFile& file : repo->files) json["siblings"].push_back({{"rfilename", file.path}});
  response.set_content(json.dump(), "application/json");
}

void FakeHub::answer_tree(const FakeRepo& repo, const std::string& query,
                          httplib::Response& response) {
  size_t begin = 0;
  if (const size_t at = query.find("cursor="); at != std::string::npos)
    begin = std::stoul(query.substr(at + 7));
  const size_t end = std::min(repo.files.size(), begin + static_cast<size_t>(settings_.page_size));
  Json list = Json::array();
  if (begin == 0)
    list.push_back(
        {{"type", "directory"}, {"oid", std::string(40, '0')}, {"size", 0}, {"path", "folder"}});
  for (size_t i = begin; i < end; ++i) {
    const FakeFile& file = repo.files[i];
    Json entry = {
        {"type", "file"}, {"oid", file.oid}, {"size", file.content.size()}, {"path", file.path}};
    if (file.lfs)
      entry["lfs"] = {{"oid", file.etag}, {"size", file.content.size()}, {"pointerSize", 134}};
    list.push_back(std::move(entry));
  }
  if (end < repo.files.size())
    response.set_header("Link", "<" + endpoint() + "/api/" + repo.kind + "/" + repo.id + "/tree/" +
                                    repo.commit + "?recursive=true&expand=false&cursor=" +
                                    std::to_string(end) + ">; rel=\"next\"");
  response.set_content(list.dump(), "application/json");
}

// /[datasets/]ORG/NAME/resolve/REV/PATH
void FakeHub::answer_resolve(const std::string& target, const httplib::Request& request,
                             httplib::Response& response, const Mishap& mishap) {
  const size_t word = target.find("/resolve/");
  if (word == std::string::npos) return fail(response, 404, "", "Not Found");
  std::string id = target.substr(1, word - 1), kind = "models";
  if (starts(id, "datasets/")) id.erase(0, 9), kind = "datasets";
  const size_t begin = word + 9, slash = target.find('/', begin);
  const std::string revision = decode(target.substr(begin, slash - begin));
  const std::string path = decode(target.substr(slash + 1, target.find('?') - slash - 1));
  const FakeRepo* repo = repo_of(kind, id);
  if (repo == nullptr) return fail(response, 404, "RepoNotFound", "Repository not found");
  if (!may_read(*repo, request, response, true)) return;
  if (!is_revision_of(*repo, revision))
    return fail(response, 404, "RevisionNotFound", "Invalid rev id: " + revision);
  response.set_header("X-Repo-Commit", repo->commit);
  const FakeFile* file = repo->find(path);
  if (file == nullptr) return fail(response, 404, "EntryNotFound", "Entry not found");
  if (file->lfs) {
    response.set_header("X-Linked-Size", std::to_string(file->content.size()));
    response.set_header("X-Linked-Etag", "\"" + file->etag + "\"");
    if (settings_.redirect_lfs) {
      response.status = 302;
      response.set_header("Location", storage() + "/blob/" + file->etag + "?Signature=sesame");
      return response.set_content("Found. Redirecting", "text/plain");
    }
  }
  response.set_header("ETag", "\"" + file->etag + "\"");
  send_file(*file, request, response, mishap);
}

// The bytes, and everything that can go wrong with them.
void FakeHub::send_file(const FakeFile& file, const httplib::Request& request,
                        httplib::Response& response, const Mishap& mishap) {
  const auto size = static_cast<int64_t>(file.content.size());
  int64_t first = 0, last = size - 1;
  response.status = 200;
  if (!mishap.ignore_range && parse_range(request.get_header_value("Range"), size, first, last)) {
    if (first >= size || last < first) {
      response.status = 416;
      response.set_header("Content-Range", "bytes */" + std::to_string(size));
      return;
    }
    if (mishap.shift_range) ++first;
    response.status = 206;
    response.set_header("Content-Range", "bytes " + std::to_string(first) + "-" +
                                             std::to_string(last) + "/" + std::to_string(size));
  }
  for (const auto& [name, value] : mishap.fields) response.set_header(name.c_str(), value.c_str());
  const int64_t length = std::max<int64_t>(last - first + 1 + mishap.length_delta, 0);
  if (length == 0) return response.set_content("", "application/octet-stream");
  auto sent = std::make_shared<int64_t>(0);
  const auto next = [this, file, mishap, first, length, sent](httplib::DataSink& sink) {
    const double rate = rate_;
    const int64_t chunk_bytes =
        rate > 0 ? std::clamp<int64_t>(static_cast<int64_t>(rate / 100), 2048, kChunk) : kChunk;
    int64_t count = std::min(chunk_bytes, length - *sent);
    for (const int64_t limit : {mishap.cut_at, mishap.stall_at}) {
      if (limit >= 0) count = std::min(count, limit - *sent);
    }
    if (count <= 0 && mishap.cut_at >= 0) return false;
    for (int i = 0; count <= 0 && i < 2000; ++i) {  // a stall, until the other side has had enough
      if (stopping_ || !sink.is_writable()) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    if (count <= 0) return false;
    const auto size_now = static_cast<int64_t>(file.content.size());
    std::string chunk;
    const char* data = reinterpret_cast<const char*>(file.content.data()) + first + *sent;
    if (mishap.flip_at >= 0 || first + *sent + count > size_now) {
      const int64_t real = std::clamp<int64_t>(size_now - first - *sent, 0, count);
      chunk.assign(data, static_cast<size_t>(real));
      chunk.resize(static_cast<size_t>(count), 'x');
      const int64_t flip = mishap.flip_at - first - *sent;
      if (mishap.flip_at >= 0 && flip >= 0 && flip < count) chunk[flip] ^= 1;
      data = chunk.data();
    }
    if (!sink.write(data, static_cast<size_t>(count))) return false;
    bytes_sent_ += count;
    *sent += count;
    if (rate > 0)
      std::this_thread::sleep_for(std::chrono::duration<double>(static_cast<double>(count) / rate));
    return !stopping_.load();
  };
  if (mishap.unsized) {
    response.set_chunked_content_provider("application/octet-stream",
                                          [next, length, sent](size_t, httplib::DataSink& sink) {
                                            if (*sent < length) return next(sink);
                                            sink.done();
                                            return true;
                                          });
  } else {
    response.set_content_provider(
        static_cast<size_t>(length), "application/octet-stream",
        [next](size_t, size_t, httplib::DataSink& sink) { return next(sink); });
  }
}

}  // namespace qwb::testing
