// A server that is after the token, or after files outside the cache.
#include "tests/hub/proxy_helper.h"
#include "tests/hub/pull_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kToken[] = "hf_secret0123456789";

class Security : public PullTest {
 protected:
  RunResult pull_with_token(const Words& words) const {
    return pull(words, {{"HF_TOKEN", kToken}});
  }
  // The hub got the token, nobody else did, and nothing tells it.
  void expect_kept(const RunResult& result) const {
    for (const SeenRequest& seen : hub_->seen()) {
      if (seen.host == "hub") {
        EXPECT_EQ(seen.authorization, std::string("Bearer ") + kToken) << seen.target;
      } else {
        EXPECT_EQ(seen.authorization, "") << seen.target;
      }
    }
    EXPECT_THAT(result.err + result.out, Not(HasSubstr(kToken)));
    EXPECT_THAT(result.err + result.out,
                Not(HasSubstr("sesame")));  // the signature of the storage's URLs
    for (const std::string& name : files(scratch_.path())) {
      if (!fs::is_regular_file(scratch_.path() / name)) continue;
      EXPECT_THAT(read_text(scratch_.path() / name), Not(HasSubstr(kToken))) << name;
    }
  }
};

TEST_F(Security, TheTokenStaysAtTheHub) {
  add_model().allowed_token = kToken;
  const RunResult result = pull_with_token({"org/model"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_GE(hub_->count("/blob/"), 1);
  expect_kept(result);
}

TEST_F(Security, RedirectsThatFishForTheToken) {
  FakeRepo& model = add_model();
  model.allowed_token = kToken;
  // Of a file, of the model's info and of the listing: to another port, and to another name of the
  // same machine.
  const std::string port = hub_->endpoint().substr(hub_->endpoint().rfind(':'));
  for (const std::string& elsewhere : {hub_->storage(), "http://localhost" + port}) {
    for (const char* match : {"/resolve/", "/revision/", "/tree/"}) {
      fs::remove_all(home());
      hub_->behave();
      hub_->forget_requests();
      hub_->misbehave({.match = match,
                       .status = 302,
                       .fields = {{"Location", elsewhere + "/fish?x=" + match}}});
      const RunResult result = pull_with_token({"org/model"});
      EXPECT_GE(hub_->count("/fish"), 1);
      for (const SeenRequest& seen : hub_->seen()) {
        if (seen.target.find("/fish") == std::string::npos) continue;
        EXPECT_EQ(seen.authorization, "");
      }
      EXPECT_THAT(result.err + result.out, Not(HasSubstr(kToken)));
    }
  }
}

TEST_F(Security, ARenamedRepositoryKeepsTheToken) {
  FakeRepo& model = add_model("new/name");
  model.allowed_token = kToken;
  model.hidden = true;
  hub_->misbehave({.match = "/api/models/old/name/revision/main",
                   .times = -1,
                   .status = 307,
                   .fields = {{"Location", "/api/models/new/name/revision/main"}}});
  hub_->misbehave({.match = "/api/models/old/name/tree/",
                   .times = -1,
                   .status = 307,
                   .fields = {{"Location", "/api/models/new/name/tree/" + model.commit}}});
  for (const FakeFile& file : model.files)
    hub_->misbehave(
        {.match = "/old/name/resolve/" + model.commit + "/" + file.path,
         .times = -1,
         .status = 307,
         .fields = {{"Location", "/new/name/resolve/" + model.commit + "/" + file.path}}});
  const RunResult result = pull_with_token({"old/name"});
  EXPECT_EQ(result.code, 0) << result.err;
  expect_same(repo("models--old--name") / "snapshots" / model.commit, model, "model.safetensors");
  expect_kept(result);
}

TEST_F(Security, AServerThatEchoesTheToken) {
  add_model();
  hub_->known_tokens = {kToken};
  hub_->misbehave({.match = "/resolve/",
                   .times = -1,
                   .status = 403,
                   .fields = {{"X-Error-Message", std::string("no: ") + kToken}}});
  const RunResult result = pull_with_token({"org/model"});
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, HasSubstr("no: ***"));
  expect_kept(result);
}

TEST_F(Security, RedirectsToOtherSchemes) {
  add_model();
  for (const char* target :
       {"file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:70/x"}) {
    hub_->behave();
    hub_->misbehave({.match = "model.safetensors",
                     .times = -1,
                     .status = 302,
                     .fields = {{"Location", target}}});
    const RunResult result = pull({"org/model"});
    EXPECT_EQ(result.code, 1) << target;
    EXPECT_THAT(result.err, HasSubstr("not an http or https URL"));
  }
  expect_clean(repo(), true);
}

TEST_F(Security, EndlessRedirects) {
  add_model();
  hub_->misbehave({.match = "model.safetensors",
                   .times = -1,
                   .status = 302,
                   .fields = {{"Location", "/org/model/resolve/main/model.safetensors"}}});
  const RunResult result = pull({"org/model"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("redirects without end"));
  hub_->behave();
  hub_->misbehave({.match = "/revision/",
                   .times = -1,
                   .status = 302,
                   .fields = {{"Location", "/api/models/org/model/revision/main"}}});
  EXPECT_THAT(pull({"org/model"}).err, HasSubstr("redirects without end"));
}

TEST_F(Security, HostileNames) {
  const std::vector<std::pair<std::string, std::string>> names = {
      {"../evil.safetensors", "'.' or '..'"},
      {"a/../../evil.json", "'.' or '..'"},
      {"/etc/evil.json", "absolute"},
      {"a\\..\\evil.json", "backslash"},
      {std::string("a\0b.json", 8), "control"},
      {"a\nb.json", "control"},
      {"a//b.json", "empty component"},
      {"./a.json", "'.' or '..'"},
      {"NUL", "reserved"},
      {"com1.json", "reserved"},
      {"C:evil.json", "drive"},
      {".git/hooks/post-checkout", "'.git'"},
      {std::string(300, 'a') + ".json", "255"},
      {"config.json/x", "below another file"},
      {"", "empty"}};
  for (const auto& [name, message] : names) {
    FakeRepo& model = hub_->add("org/evil" + std::to_string(&name - &names[0].first));
    model.put("config.json", "{}");
    model.put(name, "evil");
    for (const Words& more : {Words{}, Words{"--include", "*"},
                              Words{"--local-dir", (scratch_.path() / "local").string()}}) {
      Words words = {model.id};
      words.insert(words.end(), more.begin(), more.end());
      const RunResult result = pull(words);
      EXPECT_EQ(result.code, 4) << name << result.err;
      EXPECT_THAT(result.err, HasSubstr(message)) << name;
      EXPECT_THAT(result.err, HasSubstr("cannot be trusted")) << name;
      EXPECT_EQ(lines(result.err).size(), 1u) << name;
    }
    for (const std::string& file : files(scratch_.path()))
      EXPECT_THAT(file, Not(HasSubstr("evil"))) << name;
  }
}

TEST_F(Security, HostileNamesOfAMirrorWithoutListings) {
  start({.has_tree = false});
  FakeRepo& model = hub_->add("org/evil");
  model.put("../../evil.safetensors", "evil");
  const RunResult result = pull({"org/evil"});
  EXPECT_EQ(result.code, 4);
  EXPECT_THAT(result.err, HasSubstr("'.' or '..'"));
}

TEST_F(Security, NotesOfALocalFolderCannotBeOverwritten) {
  FakeRepo& model = hub_->add("org/model");
  model.put(".cache/huggingface/download/config.json.metadata", "evil");
  const RunResult result =
      pull({"org/model", "--include", "*", "--local-dir", (scratch_.path() / "local").string()});
  EXPECT_EQ(result.code, 4);
  EXPECT_THAT(result.err, HasSubstr("would overwrite the notes"));
}

TEST_F(Security, ASymlinkInTheWayIsNotFollowed) {
  FakeRepo& model = hub_->add("org/model");
  model.put("sub/config.json", "{}");
  const Path outside = scratch_.path() / "outside";
  fs::create_directories(outside);
  fs::create_directories(repo() / "snapshots" / model.commit);
  fs::create_directory_symlink(outside, repo() / "snapshots" / model.commit / "sub");
  const RunResult result = pull({"org/model", "--include", "*"});
  EXPECT_EQ(result.code, 4);
  EXPECT_THAT(result.err, HasSubstr("could lead elsewhere"));
  EXPECT_TRUE(fs::is_empty(outside));
  const Path local = scratch_.path() / "local";
  fs::create_directories(local);
  fs::create_directory_symlink(outside, local / "sub");
  EXPECT_EQ(pull({"org/model", "--include", "*", "--local-dir", local.string()}).code, 4);
  EXPECT_TRUE(fs::is_empty(outside));
}

TEST_F(Security, HashesThatAreNone) {
  // Blobs are named by what the server calls their hash.
  add_model();
  const auto listing = [&](const std::string& oid, const std::string& size) {
    hub_->behave();
    hub_->misbehave({.match = "/tree/",
                     .times = -1,
                     .status = 200,
                     .body = R"([{"type": "file", "path": "config.json", "oid": ")" + oid +
                             R"(", "size": )" + size + "}]"});
    return pull({"org/model"});
  };
  for (const char* oid : {"../../../../evil", "", "ABCDEF", "0123456789abcdef"}) {
    const RunResult result = listing(oid, "5");
    EXPECT_EQ(result.code, 4) << oid;
    EXPECT_THAT(result.err, HasSubstr("without its git hash"));
  }
  for (const char* size : {"-5", "9000000000000000000"}) {
    const RunResult result = listing(std::string(40, 'a'), size);
    EXPECT_EQ(result.code, 4) << size;
    EXPECT_THAT(result.err, HasSubstr("no answer of a Hub"));
  }
  const RunResult large = listing(std::string(40, 'a'), "10000000000000");  // 10 TB
  EXPECT_EQ(large.code, 1);
  EXPECT_THAT(large.err, HasSubstr("are missing and the disk has only"));
  hub_->behave();
  hub_->misbehave(
      {.match = "/revision/", .times = -1, .status = 200, .body = R"({"sha": "../../evil"})"});
  EXPECT_EQ(pull({"org/model"}).code, 4);
  hub_->behave();
  hub_->misbehave({.match = "/revision/",
                   .times = -1,
                   .status = 200,
                   .body = "<html>welcome to the hotel</html>"});
  const RunResult portal = pull({"org/model"});
  EXPECT_EQ(portal.code, 3);
  EXPECT_THAT(portal.err, HasSubstr("HTML page"));
}

TEST_F(Security, AnEndlessListing) {
  FakeRepo& model = add_model();
  hub_->misbehave(
      {.match = "/tree/",
       .times = -1,
       .status = 200,
       .fields = {{"Link", "</api/models/org/model/tree/" + model.commit + "?a>; rel=\"next\""}},
       .body = "[]"});
  const RunResult result = pull({"org/model"});
  EXPECT_EQ(result.code, 4);
  EXPECT_THAT(result.err, HasSubstr("without end"));
}

TEST_F(Security, CertificatesAreVerified) {
  start({.tls = true});
  add_model();
  const RunResult unknown = pull({"org/model"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_THAT(unknown.err, HasSubstr("certificate is not trusted"));
  EXPECT_THAT(unknown.err, HasSubstr("SSL_CERT_FILE"));
  EXPECT_EQ(hub_->seen().size(), 0u);
  // From https to the plain http of the storage: refused as well.
  const RunResult downgrade = pull({"org/model"}, {{"SSL_CERT_FILE", hub_->ca_file()}});
  EXPECT_EQ(downgrade.code, 1);
  EXPECT_THAT(downgrade.err, HasSubstr("redirects from https to http"));
  EXPECT_EQ(hub_->count("/blob/"), 0);
  EXPECT_EQ(
      pull({"org/model", "--exclude", "*.safetensors"}, {{"SSL_CERT_FILE", hub_->ca_file()}}).code,
      0);
  // The certificate is that of another host.
  const std::string port = hub_->endpoint().substr(hub_->endpoint().rfind(':'));
  EXPECT_EQ(pull({"org/model"},
                 {{"SSL_CERT_FILE", hub_->ca_file()}, {"HF_ENDPOINT", "https://localhost" + port}})
                .code,
            1);
}

// The proxy's own answer to CONNECT comes before the server's: it is no answer to the request. And
// the proxy learns where the connection goes, nothing else.
TEST_F(Security, ThroughAProxyTunnel) {
  start({.redirect_lfs = false, .tls = true});
  FakeRepo& model = add_model("org/model", 20'000'000);
  hub_->known_tokens = {kToken};
  ConnectProxy proxy;
  const Path folder = pulled({"org/model"}, {{"SSL_CERT_FILE", hub_->ca_file()},
                                             {"HTTPS_PROXY", proxy.url()},
                                             {"NO_PROXY", ""},
                                             {"no_proxy", ""},
                                             {"HF_TOKEN", kToken}});
  expect_same(folder, model, "model.safetensors");
  EXPECT_GT(proxy.tunnels(), 0);
  EXPECT_THAT(proxy.heads(), Not(HasSubstr(kToken)));
  int ranges = 0;
  for (const SeenRequest& seen : hub_->seen()) ranges += seen.range.empty() ? 0 : 1;
  EXPECT_GT(ranges, 1) << "the proxy's answer was taken for one that ignores ranges";
  EXPECT_LT(hub_->bytes_sent(), 20'000'000 * 1.05);
}

}  // namespace
}  // namespace qwb::testing
