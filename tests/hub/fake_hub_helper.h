// A Hugging Face Hub on 127.0.0.1, and under another host name (localhost, with a port of its own)
// the storage that it redirects to. Speaks the protocol as huggingface_hub expects it, and
// misbehaves on order.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/hub/fake_repo_helper.h"

namespace httplib {
class Server;
struct Request;
struct Response;
}  // namespace httplib

namespace qwb::testing {

// What the server does wrong, to requests whose target contains `match`.
struct Mishap {
  std::string match = {};
  int times = 1;         // -1: always
  bool only_get = true;  // HEAD requests are answered well
  int status = 0;        // answer with this status and nothing else ...
  std::map<std::string, std::string> fields =
      {};  // ... and these header fields (added to a good answer without a status)
  std::string body = {};
  int64_t cut_at = -1;              // close the connection after so many bytes of the body
  int64_t stall_at = -1;            // send nothing more after so many bytes
  int64_t flip_at = -1;             // one wrong byte, at this offset of the file
  int64_t length_delta = 0;         // the body has so many bytes more (fewer), and says so
  bool ignore_range = false;        // 200 and the whole file
  bool shift_range = false;         // 206 with another range than the one asked for
  bool unsized = false;             // chunked, without Content-Length
  std::function<void()> also = {};  // called when it strikes, before the answer is made
};

struct SeenRequest {
  std::string host;  // "hub" or "storage"
  std::string method, target, authorization, range;
};

class FakeHub {
 public:
  struct Settings {
    int page_size = 1000;         // entries of a tree listing
    double bytes_per_second = 0;  // of each connection; 0: as fast as it goes
    bool has_tree = true;         // false: a simple mirror, without listings
    bool redirect_lfs = true;
    int send_buffer = 0;      // SO_SNDBUF; 0: the system's
    bool tls = false;         // the hub itself (not the storage) speaks TLS, see ca_file()
    std::string folder = {};  // for the certificate
  };
  FakeHub() : FakeHub(Settings()) {}
  explicit FakeHub(Settings settings);
  ~FakeHub();
  FakeHub(const FakeHub&) = delete;
  FakeHub& operator=(const FakeHub&) = delete;

  std::string endpoint() const;
  std::string storage() const;
  std::string ca_file() const { return settings_.folder + "/ca.pem"; }
  FakeRepo& add(const std::string& id, const std::string& kind = "models");
  // Tokens that belong to an account.
  std::vector<std::string> known_tokens;

  void misbehave(Mishap mishap);
  void behave();
  // Changes to repositories while requests may be under way.
  void change(const std::function<void()>& action);

  std::vector<SeenRequest> seen() const;
  // Requests whose target contains the text.
  int count(const std::string& text) const;
  void forget_requests();
  // Of each connection from now on; 0: as fast as it goes.
  void set_rate(double bytes_per_second) { rate_ = bytes_per_second; }
  // Bytes of file contents handed to connections.
  int64_t bytes_sent() const { return bytes_sent_; }

 private:
  struct Answer;
  void serve(httplib::Server& server);
  void handle(const std::string& host, const httplib::Request& request,
              httplib::Response& response);
  void answer_api(const std::string& target, const httplib::Request& request,
                  httplib::Response& response);
  void answer_tree(const FakeRepo& repo, const std::string& query, httplib::Response& response);
  void answer_resolve(const std::string& target, const httplib::Request& request,
                      httplib::Response& response, const Mishap& mishap);
  void send_file(const FakeFile& file, const httplib::Request& request, httplib::Response& response,
                 const Mishap& mishap);
  bool may_read(const FakeRepo& repo, const httplib::Request& request, httplib::Response& response,
                bool content) const;
  Mishap next_mishap(const std::string& target, bool get);
  const FakeRepo* repo_of(const std::string& kind, const std::string& id) const;

  Settings settings_;
  mutable std::recursive_mutex mutex_;
  std::list<FakeRepo> repos_;
  std::list<Mishap> mishaps_;
  std::vector<SeenRequest> seen_;
  std::atomic<int64_t> bytes_sent_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<double> rate_{0};
  std::unique_ptr<httplib::Server> hub_, store_;
  int hub_port_ = 0, store_port_ = 0;
  std::thread hub_thread_, store_thread_;
};

}  // namespace qwb::testing
