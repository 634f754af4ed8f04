// Who may ask: hosts, origins and keys over every route of the table.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/serve/http/gate.h"

namespace qwb::serve {
namespace {

RequestHead head_for(const Route& route) {
  RequestHead head;
  head.method = route.method;
  head.target = route.path;
  if (head.target.ends_with('*')) head.target.back() = 'x';
  head.fields = {{"host", "localhost:8080"}};
  head.local_address = "192.0.2.7";
  if (route.method == "POST") {
    head.fields.emplace_back("content-type", "application/json");
    head.content_length = 2;
  }
  return head;
}

RequestHead with(RequestHead head, const std::string& name, const std::string& value) {
  std::erase_if(head.fields, [&](const auto& field) { return field.first == name; });
  head.fields.emplace_back(name, value);
  return head;
}

// 200 where the request is admitted.
int status_of(const GateSettings& settings, const RequestHead& head) {
  try {
    std::string cors;
    admit(settings, head, cors);
    return 200;
  } catch (const ApiError& error) {
    return error.status();
  }
}

TEST(Gate, HostsOfEveryRoute) {
  const GateSettings settings{.hosts = {"box.example.org"}, .origins = {}, .keys = {}};
  for (const Route& route : routes()) {
    const RequestHead head = head_for(route);
    for (const char* good : {"localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]", "[::1]:80",
                             "box.example.org", "Box.Example.org:443", "192.0.2.7"})
      EXPECT_EQ(status_of(settings, with(head, "host", good)), 200) << good << route.path;
    for (const char* bad : {"localhost.evil.com", "evil.com", "evil.com:8080", "127.0.0.1.nip.io",
                            "xlocalhost", "localhost.", "192.0.2.8", "0.0.0.0"})
      EXPECT_EQ(status_of(settings, with(head, "host", bad)), 403) << bad << route.path;
    for (const char* broken : {"", "localhost:", "localhost:x", "localhost:8080x", "a b", "[::1",
                               "localhost/", "user@localhost", "localhost:123456"})
      EXPECT_EQ(status_of(settings, with(head, "host", broken)), 400) << broken << route.path;
    RequestHead twice = head;
    twice.fields.emplace_back("host", "localhost");
    EXPECT_EQ(status_of(settings, twice), 400);
    twice.fields.clear();
    EXPECT_EQ(status_of(settings, twice), 400);
  }
}

TEST(Gate, OriginsOfEveryRoute) {
  const GateSettings settings{.hosts = {}, .origins = {"https://app.example.org"}, .keys = {}};
  for (const Route& route : routes()) {
    const RequestHead head = head_for(route);
    for (const char* good : {"http://localhost:8080", "https://app.example.org"})
      EXPECT_EQ(status_of(settings, with(head, "origin", good)), 200) << good;
    for (const char* bad : {"http://localhost", "http://localhost:3000", "null", "https://evil.com",
                            "https://app.example.org.evil.com", "http://app.example.org"})
      EXPECT_EQ(status_of(settings, with(head, "origin", bad)), 403) << bad;
    EXPECT_EQ(status_of(settings, with(head, "sec-fetch-site", "cross-site")), 403);
    EXPECT_EQ(status_of(settings, with(head, "sec-fetch-site", "same-origin")), 200);
  }
}

TEST(Gate, KeysBeforeRoutes) {
  const GateSettings settings{
      .hosts = {}, .origins = {}, .keys = {hash_of_key("first"), hash_of_key("second")}};
  int open = 0;
  for (const Route& route : routes()) {
    const RequestHead head = head_for(route);
    open += route.needs_key ? 0 : 1;
    EXPECT_EQ(status_of(settings, head), route.needs_key ? 401 : 200) << route.path;
    for (const char* good : {"Bearer first", "bearer second", "BEARER  first"})
      EXPECT_EQ(status_of(settings, with(head, "authorization", good)), 200) << good;
    EXPECT_EQ(status_of(settings, with(head, "x-api-key", "second")), 200);
    for (const char* bad :
         {"first", "Bearer", "Bearer ", "Bearer firs", "Bearer first ", "Basic first"})
      EXPECT_EQ(status_of(settings, with(head, "authorization", bad)), route.needs_key ? 401 : 200)
          << bad;
  }
  EXPECT_EQ(open, 3);  // /health, and the page, which holds nothing of anybody
  RequestHead nowhere = head_for(routes().front());
  for (const char* path :
       {"/pages", "/page/", "/v1/nothing", "/health/", "/v1/models/../../health", "/invocations"}) {
    nowhere.target = path;
    EXPECT_EQ(status_of(settings, nowhere), 401) << path;
  }
  EXPECT_EQ(status_of({}, nowhere), 404);
}

TEST(Gate, OwnersAreTheirKeys) {
  const GateSettings settings{
      .hosts = {}, .origins = {}, .keys = {hash_of_key("first"), hash_of_key("second")}};
  const RequestHead head = head_for({"POST", "/v1/completions", handle_text});
  std::string cors;
  const std::string one = admit(settings, with(head, "x-api-key", "first"), cors).owner,
                    two = admit(settings, with(head, "x-api-key", "second"), cors).owner;
  EXPECT_NE(one, two);
  EXPECT_EQ(one.find("first"), std::string::npos);
}

TEST(Gate, PreflightsNeedNoKeyAndAreAnsweredForListedOrigins) {
  const GateSettings settings{
      .hosts = {}, .origins = {"https://app.example.org"}, .keys = {hash_of_key("first")}};
  RequestHead head = head_for({"POST", "/v1/completions", handle_text});
  head.method = "OPTIONS";
  head.content_length.reset();
  std::string cors;
  EXPECT_EQ(admit(settings, with(head, "origin", "https://app.example.org"), cors).route, nullptr);
  EXPECT_EQ(cors, "https://app.example.org");
  EXPECT_EQ(status_of(settings, with(head, "origin", "https://evil.com")), 403);
  EXPECT_EQ(status_of(settings, head), 401);
}

TEST(Gate, MethodsAndBodies) {
  const RequestHead head = head_for({"POST", "/v1/completions", handle_text});
  EXPECT_EQ(status_of({}, head), 200);
  EXPECT_EQ(status_of({}, with(head, "content-type", "application/json; charset=utf-8")), 200);
  EXPECT_EQ(status_of({}, with(head, "content-type", "text/plain")), 415);
  EXPECT_EQ(status_of({}, with(head, "content-encoding", "gzip")), 415);
  RequestHead changed = head;
  changed.content_length = (4 << 20) + 1;
  EXPECT_EQ(status_of({}, changed), 413);
  changed.content_length.reset();
  EXPECT_EQ(status_of({}, changed), 411);
  changed.chunked = true;
  EXPECT_EQ(status_of({}, changed), 200);
  changed.method = "GET";
  EXPECT_EQ(status_of({}, changed), 405);
  RequestHead get = head_for(routes().front());
  get.method = "HEAD";
  EXPECT_EQ(status_of({}, get), 200);
  get.content_length = 5;
  EXPECT_EQ(status_of({}, get), 400);
}

TEST(Gate, PathsAreDecodedOnce) {
  EXPECT_EQ(decoded_path("/v1/models/a%2Fb%20c?x=%00"), "/v1/models/a/b c");
  EXPECT_EQ(decoded_path("/%252F"), "/%2F");
  for (const char* bad : {"", "v1", "*", "/%", "/%2", "/%zz", "/%00", "/%0a", "http://x/"})
    EXPECT_EQ(decoded_path(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace qwb::serve
