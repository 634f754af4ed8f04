// Gated, private and missing repositories, and tokens.
#include <fcntl.h>
#include <pty.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/hub/pull_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kGood[] = "hf_good0123456789";
constexpr char kOther[] = "hf_other0123456789";

class Access : public PullTest {
 protected:
  // Files that other processes find neither the token nor its parts in.
  void expect_token_only_in(const Path& file, const std::string& token) const {
    for (const std::string& name : files(scratch_.path())) {
      const Path path = scratch_.path() / name;
      if (path == file || !fs::is_regular_file(path)) continue;
      EXPECT_EQ(read_text(path).find(token), std::string::npos) << name;
    }
  }
};

TEST_F(Access, GatedWithoutAToken) {
  add_model().allowed_token = kGood;
  const RunResult result = pull({"org/model"});
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, HasSubstr("org/model: this model is gated and there is no token"));
  EXPECT_THAT(result.err, HasSubstr("accept its licence at " + hub_->endpoint() + "/org/model"));
  EXPECT_THAT(result.err, HasSubstr("HF_TOKEN"));
  EXPECT_THAT(result.err, HasSubstr("qwb-pull --login"));
  EXPECT_EQ(lines(result.err).size(), 1u);
}

TEST_F(Access, GatedWithTheTokenOfAnotherAccount) {
  add_model().allowed_token = kGood;
  hub_->known_tokens = {kOther};
  const RunResult result = pull({"org/model"}, {{"HF_TOKEN", kOther}});
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, HasSubstr("the token's account (HF_TOKEN) has no access"));
  EXPECT_THAT(result.err, HasSubstr("accept its licence at " + hub_->endpoint() + "/org/model"));
  EXPECT_THAT(result.err, Not(HasSubstr(kOther)));
}

TEST_F(Access, GatedWithTheRightToken) {
  FakeRepo& model = add_model();
  model.allowed_token = kGood;
  expect_same(pulled({"org/model"}, {{"HF_TOKEN", std::string(" ") + kGood + "\r\n"}}), model,
              "model.safetensors");
  expect_token_only_in({}, kGood);
}

TEST_F(Access, ATokenThatIsNone) {
  add_model();
  const RunResult result = pull({"org/model"}, {{"HF_TOKEN", "hf_expired"}});
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, HasSubstr("the Hub does not accept the token of HF_TOKEN"));
  EXPECT_THAT(result.err, HasSubstr("/settings/tokens"));
  EXPECT_THAT(result.err, Not(HasSubstr("hf_expired")));
  const RunResult broken = pull({"org/model"}, {{"HF_TOKEN", "hf_a\nX-Evil: 1"}});
  EXPECT_EQ(broken.code, 2);
  EXPECT_THAT(broken.err, Not(HasSubstr("X-Evil")));
}

TEST_F(Access, PrivateMissingAndMisspelled) {
  FakeRepo& model = add_model();
  model.allowed_token = kGood;
  model.hidden = true;
  hub_->known_tokens = {kOther};
  for (const char* name : {"org/model", "org/nothing"}) {
    const RunResult anonymous = pull({name});
    EXPECT_EQ(anonymous.code, 3);
    EXPECT_THAT(
        anonymous.err,
        HasSubstr(std::string(name) + ": there is no such model on the Hub, or it is not public"));
    EXPECT_THAT(anonymous.err, HasSubstr("qwb-pull --login"));
    const RunResult stranger = pull({name}, {{"HF_TOKEN", kOther}});
    EXPECT_EQ(stranger.code, 3) << name;
  }
  EXPECT_EQ(pull({"org/model"}, {{"HF_TOKEN", kGood}}).code, 0);
}

TEST_F(Access, AMissingRevisionIsToldApart) {
  add_model();
  const RunResult result = pull({"org/model@v9"});
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, HasSubstr("org/model: the model has no revision 'v9'"));
  const RunResult commit = pull({"org/model@" + std::string(40, 'a')});
  EXPECT_EQ(commit.code, 3);
  EXPECT_THAT(commit.err, HasSubstr("no revision"));
}

TEST_F(Access, ADisabledRepository) {
  add_model();
  hub_->misbehave({.match = "/api/",
                   .times = -1,
                   .status = 403,
                   .fields = {{"X-Error-Message", "Access to this resource is disabled."}}});
  const RunResult result = pull({"org/model"});
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, HasSubstr("disabled"));
}

TEST_F(Access, TheTokenFile) {
  FakeRepo& model = add_model();
  model.allowed_token = kGood;
  fs::create_directories(home());
  write_file_atomically(home() / "token", as_bytes(std::string(kGood) + "\n"));
  EXPECT_EQ(pull({"org/model"}, {{"HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"}}).code, 3);
  EXPECT_EQ(pull({"org/model"}).code, 0);
}

TEST_F(Access, LoginFromAPipe) {
  FakeRepo& model = add_model();
  model.allowed_token = kGood;
  hub_->known_tokens = {kGood};
  const Path typed = scratch_.path() / "typed";
  write_file_atomically(typed, as_bytes(std::string(kGood) + "\n"));
  const RunResult result = tool("pull", {"--login"}, {}, {.stdin_path = typed.string()});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("logged in as tester"));
  EXPECT_THAT(result.err + result.out, Not(HasSubstr(kGood)));
  EXPECT_EQ(read_text(home() / "token"), kGood);
  struct stat status {};
  ASSERT_EQ(stat((home() / "token").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  fs::remove(typed);
  expect_token_only_in(home() / "token", kGood);
  EXPECT_EQ(pull({"org/model"}).code, 0);
  // A token that the Hub does not know is not stored.
  write_file_atomically(typed, as_bytes("hf_unknown\n"));
  const RunResult unknown = tool("pull", {"--login"}, {}, {.stdin_path = typed.string()});
  EXPECT_EQ(unknown.code, 3);
  EXPECT_THAT(unknown.err, HasSubstr("does not accept"));
  EXPECT_EQ(read_text(home() / "token"), kGood);
  EXPECT_EQ(tool("pull", {"--login"}).code, 2);  // nothing on stdin
}

// On a terminal the token is not shown, and afterwards typing is shown again.
TEST_F(Access, LoginOnATerminalWithoutEcho) {
  hub_->known_tokens = {kGood};
  int master = -1, slave = -1;
  ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  const Program login({QWB_BIN_DIR "/qwb-pull", "--login"}, environment());
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    for (const int fd : {0, 1, 2}) dup2(slave, fd);
    login.execute();
  }
  std::string shown;
  char buffer[4096];
  fcntl(master, F_SETFL, O_NONBLOCK);
  bool typed = false;
  int status = 0;
  for (int i = 0; i < 1000 && waitpid(child, &status, WNOHANG) == 0; ++i) {
    const ssize_t count = read(master, buffer, sizeof buffer);
    if (count > 0) shown.append(buffer, static_cast<size_t>(count));
    if (!typed && shown.find("not shown") != std::string::npos) {
      typed = true;
      ASSERT_GT(write(master, "hf_good0123456789\n", 18), 0);
    }
    usleep(10'000);
  }
  const ssize_t count = read(master, buffer, sizeof buffer);
  if (count > 0) shown.append(buffer, static_cast<size_t>(count));
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << shown;
  EXPECT_THAT(shown, HasSubstr("logged in as tester"));
  EXPECT_THAT(shown, Not(HasSubstr(kGood)));
  termios state{};
  ASSERT_EQ(tcgetattr(slave, &state), 0);
  EXPECT_NE(state.c_lflag & ECHO, 0u);
  close(master);
  close(slave);
}

}  // namespace
}  // namespace qwb::testing
