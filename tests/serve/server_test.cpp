// The server over real connections: its limits, what becomes of clients that go, and how it ends.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lib/serve/http/log_line.h"
#include "lib/serve/http/server.h"
#include "tests/serve/demo_model_helper.h"

namespace qwb::serve {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using namespace std::chrono_literals;

// A client that does as its test says, byte by byte.
class Client {
 public:
  explicit Client(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  // False: the server has closed the connection.
  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // Until `end` has come, or nothing comes any more.
  std::string read_until(const std::string& end, std::chrono::milliseconds time = 10s) {
    std::string text;
    while (end.empty() || text.find(end) == std::string::npos) {
      pollfd poll{socket_, POLLIN, 0};
      if (::poll(&poll, 1, static_cast<int>(time.count())) <= 0) break;
      char bytes[4096];
      const ssize_t count = ::recv(socket_, bytes, sizeof bytes, 0);
      if (count <= 0) break;
      text.append(bytes, static_cast<size_t>(count));
    }
    return text;
  }
  std::string read_all() { return read_until(""); }
  void shut_down_writing() { ::shutdown(socket_, SHUT_WR); }
  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }

 private:
  int socket_;
};

std::string post(const std::string& path, const std::string& body, const std::string& more = {}) {
  return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
         more + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
constexpr const char* kHealth = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
constexpr const char* kLong =
    R"({"prompt": "The history", "max_tokens": 500, "ignore_eos": true, "stream": STREAM})";
std::string long_request(bool stream) {
  std::string body = kLong;
  return post("/v1/completions", body.replace(body.find("STREAM"), 6, stream ? "true" : "false"));
}

class ServerTest : public ::testing::Test {
 protected:
  ServerTest() {
    settings_.port = 0;
    settings_.head_time = 400ms;
    settings_.body_time = 400ms;
    settings_.shutdown_time = 5s;
    settings_.connections = 40;
  }
  ~ServerTest() override { finish(); }
  void start() {
    std::vector<ServedModel> models;
    models.push_back(demo_model());
    service_ = std::make_unique<Service>(
        std::move(models), ServiceSettings{.engine = demo_limits(), .max_tokens = {}});
    server_ = std::make_unique<Server>(*service_, settings_, [this](const RequestLog& log) {
      const std::lock_guard lock(mutex_);
      logs_.push_back(log);
    });
    thread_ = std::thread([this] { clean_ = server_->run(stop_.token()); });
  }
  void finish() {
    stop_.request();
    if (thread_.joinable()) thread_.join();
    server_.reset();
  }
  uint16_t port() const { return server_->port(); }
  std::string ask(const std::string& request) {
    Client client(port());
    client.send(request);
    client.shut_down_writing();
    return client.read_all();
  }
  std::vector<RequestLog> logs() {
    const std::lock_guard lock(mutex_);
    return logs_;
  }
  bool wait_for(const std::function<bool()>& state, std::chrono::milliseconds time = 5s) {
    for (const auto end = std::chrono::steady_clock::now() + time;
         std::chrono::steady_clock::now() < end; std::this_thread::sleep_for(2ms)) {
      if (state()) return true;
    }
    return false;
  }
  bool idle() { return service_->engine().load().running == 0; }

  ServerSettings settings_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<Server> server_;
  StopSource stop_;
  bool clean_ = false;

 private:
  std::thread thread_;
  std::mutex mutex_;
  std::vector<RequestLog> logs_;
};

TEST_F(ServerTest, AnswersAndKeepsConnections) {
  start();
  Client client(port());
  for (int i = 0; i < 2; ++i) {
    client.send("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: id-1\r\n\r\n");
    const std::string answer = client.read_until("}\n");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(answer, HasSubstr("\r\nX-Request-Id: id-1\r\n"));
    EXPECT_THAT(answer, HasSubstr("nosniff"));
    EXPECT_EQ(answer.find("Access-Control"), std::string::npos);
  }
  // Two requests at once, and a body in single bytes.
  client.send(std::string(kHealth) + kHealth);
  std::string both = client.read_until("}\n");
  if (both.find("}\n") == both.rfind("}\n")) both += client.read_until("}\n");
  EXPECT_NE(both.find("}\n"), both.rfind("}\n"));
  for (const char c : post("/tokenize", R"({"content": "The"})")) client.send({&c, 1});
  EXPECT_THAT(client.read_until("}\n"), HasSubstr("tokens"));
  EXPECT_THAT(ask("HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n"),
              ::testing::EndsWith("\r\n\r\n"));
  EXPECT_THAT(ask("GET /v1/models HTTP/1.0\r\nHost: localhost\r\n\r\n"), HasSubstr("close"));
}

TEST_F(ServerTest, WhatIsTooMuchOrTooSlowIsRefused) {
  start();
  const std::string line = "GET /health HTTP/1.1\r\nHost: localhost\r\nX: ";
  EXPECT_THAT(ask(line + std::string(8192 - line.size() - 2, 'x') + "\r\n\r\n"),
              HasSubstr(" 200 "));
  EXPECT_THAT(ask(line + std::string(8300 - line.size() - 2, 'x') + "\r\n\r\n"),
              HasSubstr(" 431 "));
  EXPECT_THAT(ask(std::string(1 << 20, 'x')), StartsWith("HTTP/1.1 4"));
  EXPECT_THAT(ask("nonsense\r\n\r\n"), HasSubstr(" 400 "));
  EXPECT_THAT(ask(post("/tokenize", "{}", "Transfer-Encoding: chunked\r\n")), HasSubstr(" 400 "));
  EXPECT_THAT(ask("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n"
                  "Content-Type: application/json\r\n\r\n"),
              HasSubstr(" 413 "));
  const std::string chunks =
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
      "application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_THAT(ask(chunks + "12\r\n{\"content\": \"The\"}\r\n0\r\n\r\n"), HasSubstr(" 200 "));
  EXPECT_THAT(ask(chunks + "FFFFFFF\r\n" + std::string(100, ' ')), HasSubstr(" 413 "));
  Client slow_head(port()), slow_body(port());
  slow_head.send("GET /health HTTP/1.1\r\nHo");
  std::string body = post("/tokenize", R"({"content": "The"})");
  body.pop_back();
  slow_body.send(body);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(slow_head.read_all(), "");  // closed
  EXPECT_EQ(slow_body.read_all(), "");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
}

TEST_F(ServerTest, HealthAnswersAtOnceWhateverElseGoesOn) {
  start();
  std::vector<std::unique_ptr<Client>> idle;
  for (int i = 0; i < 60; ++i) {  // more than there may be: the oldest make room
    idle.push_back(std::make_unique<Client>(port()));
    idle.back()->send("GET /hea");
  }
  std::vector<std::unique_ptr<Client>> busy;
  for (int i = 0; i < 4; ++i) {
    busy.push_back(std::make_unique<Client>(port()));
    busy.back()->send(long_request(true));
  }
  ASSERT_TRUE(wait_for([&] { return !this->idle(); }));
  for (int i = 0; i < 10; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_THAT(ask(kHealth), HasSubstr(" 200 "));
    // 50 ms on a machine that is not shared with other tests.
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 500ms);
  }
}

TEST_F(ServerTest, WhoGoesStopsTheWork) {
  start();
  for (const bool stream : {true, false}) {
    Client client(port());
    client.send(long_request(stream));
    const int64_t before = service_->engine().load().decoded;
    ASSERT_TRUE(wait_for([&] { return service_->engine().load().decoded > before + 2; }));
    const int64_t steps = service_->engine().load().steps;
    client.close();
    EXPECT_TRUE(wait_for([&] { return idle(); }));
    EXPECT_LT(service_->engine().load().steps, steps + 400) << stream;
  }
  ASSERT_TRUE(wait_for([&] { return logs().size() == 2; }));
  EXPECT_EQ(logs()[0].record.finish, "gone");
  EXPECT_EQ(logs()[1].status, 499);
  for (const RequestLog& log : logs()) EXPECT_GT(log.record.generated_tokens, 0);
}

TEST_F(ServerTest, WhoOnlyWritesNoMoreGetsTheAnswer) {
  start();
  const std::string body = R"({"prompt": "The history", "max_tokens": 40, "temperature": 0,
                               "ignore_eos": true, "stream": true})";
  EXPECT_THAT(ask(post("/v1/completions", body)), HasSubstr("data: [DONE]\n\n"));
  std::string whole = body;
  whole.replace(whole.find("\"stream\": true"), 14, "\"stream\": false");
  EXPECT_THAT(ask(post("/v1/completions", whole)), HasSubstr("\"completion_tokens\":40"));
}

TEST_F(ServerTest, KeysHostsAndOriginsOverTheWire) {
  settings_.gate.keys = {hash_of_key("secret")};
  settings_.gate.origins = {"https://app.example.org"};
  start();
  const std::string models = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n";
  EXPECT_THAT(ask(models + "\r\n"), HasSubstr(" 401 "));
  EXPECT_THAT(ask(models + "Authorization: Bearer secret\r\n\r\n"), HasSubstr(" 200 "));
  EXPECT_THAT(ask("GET /v1/models HTTP/1.1\r\nHost: evil.com\r\n\r\n"), HasSubstr(" 403 "));
  const std::string cors = "Origin: https://app.example.org\r\n";
  EXPECT_THAT(ask(models + cors + "\r\n"),
              HasSubstr("Access-Control-Allow-Origin: https://app.example.org"));
  const std::string preflight =
      ask("OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\n" + cors + "\r\n");
  EXPECT_THAT(preflight, HasSubstr(" 204 "));
  EXPECT_THAT(preflight, HasSubstr("Access-Control-Allow-Headers: Authorization, Content-Type"));
}

TEST_F(ServerTest, AStopLetsAnswersEnd) {
  start();
  Client client(port());
  const std::string body =
      R"({"prompt": "The history", "max_tokens": 200, "ignore_eos": true, "stream": true})";
  client.send(post("/v1/completions", body));
  ASSERT_TRUE(wait_for([&] { return !idle(); }));
  stop_.request();
  ASSERT_TRUE(wait_for([&] { return service_->draining(); }));
  EXPECT_THAT(ask(kHealth), HasSubstr(" 503 "));
  EXPECT_THAT(ask(post("/tokenize", R"({"content": "a"})")), HasSubstr(" 503 "));
  EXPECT_THAT(client.read_all(), HasSubstr("data: [DONE]\n\n"));
  finish();
  EXPECT_TRUE(clean_);
}

TEST_F(ServerTest, WhatTakesTooLongIsCutOff) {
  settings_.shutdown_time = 20ms;
  start();
  Client client(port());
  client.send(long_request(true));
  ASSERT_TRUE(wait_for([&] { return !idle(); }));
  stop_.request();
  EXPECT_THAT(client.read_all(), HasSubstr("data: {\"error\":"));
  finish();
  EXPECT_FALSE(clean_);
}

TEST(LogLine, TellsCountsAndTimesButNoTexts) {
  RequestLog log;
  log.id = "abc";
  log.peer = "127.0.0.1";
  log.method = "POST";
  log.path = "/v1/completions\n\x1b[2J";
  log.status = 200;
  log.seconds = 0.25;
  log.record.model = "m";
  log.record.generated = true;
  log.record.prompt_tokens = 12;
  log.record.finish = "stop";
  log.record.queue_seconds = 0.01;
  log.record.prefill_seconds = 0.02;
  EXPECT_EQ(log_line(log, false),
            "127.0.0.1 POST /v1/completions??[2J 200 model=m prompt=12 (cached 0) made=0 stop "
            "queue=10ms ttft=30ms total=250ms id=abc");
  const Json json = Json::parse(log_line(log, true));
  EXPECT_EQ(json["ttft_ms"], 30);
  EXPECT_EQ(json["path"], "/v1/completions??[2J");
}

}  // namespace
}  // namespace qwb::serve
