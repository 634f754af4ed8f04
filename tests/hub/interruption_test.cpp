// Pulls that are killed, cut, doubled, or find no room: what is visible is right, what was verified
// is not fetched again, and nothing blocks the next run.
#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "lib/base/rng.h"
#include "tests/hub/pull_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class SlowInterruption : public PullTest {
 protected:
  // A qwb-pull in the background.
  class Child {
   public:
    Child(const Environment& environment, const Words& arguments) {
      Words words = {QWB_BIN_DIR "/qwb-pull", "-q"};
      words.insert(words.end(), arguments.begin(), arguments.end());
      Words variables;
      for (const auto& [name, value] : environment) {
        if (!value.empty()) variables.push_back(name + "=" + value);
      }
      const auto pointers = [](Words& texts) {
        std::vector<char*> result;
        for (std::string& text : texts) result.push_back(text.data());
        result.push_back(nullptr);
        return result;
      };
      posix_spawn_file_actions_t actions;
      posix_spawn_file_actions_init(&actions);
      posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
      if (posix_spawn(&pid_, words[0].c_str(), &actions, nullptr, pointers(words).data(),
                      pointers(variables).data()) != 0)
        throw std::runtime_error("posix_spawn");
      posix_spawn_file_actions_destroy(&actions);
    }
    ~Child() {
      if (pid_ <= 0) return;
      signal(SIGKILL);
      wait();
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    void signal(int number) const { ::kill(pid_, number); }
    // The most memory it has had so far, in bytes; 0 once it has ended. (Not from wait4():
    // ru_maxrss begins with what the process had that it was spawned from.)
    int64_t peak_memory() const {
      std::ifstream file("/proc/" + std::to_string(pid_) + "/status");
      for (std::string line; std::getline(file, line);) {
        if (line.starts_with("VmHWM:")) return 1024 * std::stoll(line.substr(6));
      }
      return 0;
    }
    bool running() {
      return !ended_ && ::waitpid(pid_, &status_, WNOHANG) == 0 ? true : !(ended_ = true);
    }
    // Its exit code, or minus the signal that killed it.
    int wait() {
      if (!ended_) ::waitpid(pid_, &status_, 0);
      ended_ = true;
      return WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
    }

   private:
    pid_t pid_ = -1;
    int status_ = 0;
    bool ended_ = false;
  };

  bool wait_for(const std::function<bool()>& condition, double seconds = 20) const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
  }
};

// Connections cut at random bytes and processes killed at random instants, while 64 MB come
// (QWB_HUB_INTERRUPTIONS of them, 40 by default).
TEST_F(SlowInterruption, RandomCutsAndKills) {
  const char* wanted = std::getenv("QWB_HUB_INTERRUPTIONS");
  const int count = wanted != nullptr ? std::atoi(wanted) : 40;
  constexpr int64_t kSize = 64'000'000;
  start({.bytes_per_second = 1, .send_buffer = 32 << 10});
  FakeRepo& model = hub_->add("org/model");
  model.put("config.json", "{}");
  model.put("tokenizer.json", random_bytes(1'000'000, 9));
  model.put("model.safetensors", random_bytes(kSize - 1'000'002, 8));
  Rng rng(2026);
  int kills = 0, cuts = 0;
  const Environment variables = environment();
  while (kills + cuts < count) {
    const int planned = static_cast<int>(rng.below(3));
    auto struck = std::make_shared<std::atomic<int>>(0);
    for (int i = 0; i < planned; ++i)
      hub_->misbehave({.match = "/blob/",
                       .cut_at = static_cast<int64_t>(rng.below(200'000)),
                       .also = [struck] { ++*struck; }});
    // Each process gets its share of what is left, over the eight connections and the 50 ms that it
    // downloads on average.
    const auto left =
        static_cast<double>(std::max<int64_t>(kSize - hub_->bytes_sent(), kSize / 100));
    hub_->set_rate(left / (count - kills - cuts) / 8 / 0.05);
    Child child(variables, {"org/model"});
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + rng.below(120)));
    child.signal(SIGKILL);
    if (child.wait() == -SIGKILL) ++kills;
    cuts += *struck;
    hub_->behave();
    const Path folder = repo() / "snapshots" / model.commit;
    if (fs::exists(folder / "model.safetensors")) expect_same(folder, model, "model.safetensors");
    if (kills + cuts >= count || fs::exists(repo() / "refs" / "main")) break;
  }
  hub_->set_rate(0);
  const int64_t before_last = hub_->bytes_sent();
  const Path folder = pulled({"org/model"});
  for (const char* path : {"config.json", "tokenizer.json", "model.safetensors"})
    expect_same(folder, model, path);
  expect_clean(repo());
  const double ratio = static_cast<double>(hub_->bytes_sent()) / kSize;
  std::printf(
      "%d kills, %d cuts, %lld of %lld bytes left for the last run; transferred / size = %.4f\n",
      kills, cuts, static_cast<long long>(hub_->bytes_sent() - before_last),
      static_cast<long long>(kSize), ratio);
  EXPECT_GE(kills + cuts, count) << "the download ended before it was interrupted often enough";
  EXPECT_LE(ratio, 1.2);
}

// The clock was wrong, or is now: what is on disk seems to come from the future, or from long ago.
TEST_F(SlowInterruption, TimesOfFilesDoNotMatter) {
  constexpr int64_t kSize = 12 << 20;
  const auto shift_times = [&](int years) {
    const auto when = fs::file_time_type::clock::now() + std::chrono::hours(years * 365 * 24);
    for (const auto& entry : fs::recursive_directory_iterator(home())) {
      if (entry.is_regular_file() && !entry.is_symlink()) fs::last_write_time(entry.path(), when);
    }
  };
  for (const int years : {20, -20}) {
    fs::remove_all(home());
    start({.bytes_per_second = 2e6});
    FakeRepo& model = add_model("org/model", kSize);
    {
      Child killed(environment(), {"org/model"});
      ASSERT_TRUE(wait_for([&] { return hub_->bytes_sent() > kSize / 2; }));
      killed.signal(SIGKILL);
      EXPECT_EQ(killed.wait(), -SIGKILL);
    }
    shift_times(years);
    hub_->set_rate(0);
    expect_same(pulled({"org/model"}), model, "model.safetensors");
    expect_clean(repo());
    EXPECT_LT(hub_->bytes_sent(), kSize * 1.2);
    shift_times(-years);
    const int64_t before = hub_->bytes_sent();
    expect_same(pulled({"org/model"}), model, "model.safetensors");
    EXPECT_EQ(hub_->bytes_sent(), before);
  }
}

TEST_F(SlowInterruption, TwoAtOnceFetchOnce) {
  start({.bytes_per_second = 4e6});
  FakeRepo& model = add_model("org/model", 12 << 20);
  const Environment variables = environment();
  Child first(variables, {"org/model"});
  Child second(variables, {"org/model"});
  EXPECT_EQ(first.wait(), 0);
  EXPECT_EQ(second.wait(), 0);
  expect_same(repo() / "snapshots" / model.commit, model, "model.safetensors");
  expect_clean(repo());
  EXPECT_LT(hub_->bytes_sent(), (12 << 20) * 1.05);
}

TEST_F(SlowInterruption, TheOtherOneIsKilledAndThisOneGoesOn) {
  start({.bytes_per_second = 1e6});
  FakeRepo& model = add_model("org/model", 12 << 20);
  const Environment variables = environment();
  Child first(variables, {"org/model"});
  ASSERT_TRUE(wait_for([&] { return hub_->bytes_sent() > 1 << 20; }));
  Child second(variables, {"org/model"});
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  first.signal(SIGKILL);
  EXPECT_EQ(second.wait(), 0);
  expect_same(repo() / "snapshots" / model.commit, model, "model.safetensors");
  expect_clean(repo());
  EXPECT_LT(hub_->bytes_sent(), (12 << 20) * 1.2);
}

// A process that hangs with the lock in hand (stopped, or on a dead network) is passed by.
TEST_F(SlowInterruption, AHungProcessDoesNotBlock) {
  start({.bytes_per_second = 2e6});
  FakeRepo& model = add_model("org/model", 6 << 20);
  Environment variables = environment();
  Child first(variables, {"org/model"});
  ASSERT_TRUE(wait_for([&] { return hub_->bytes_sent() > 1 << 20; }));
  first.signal(SIGSTOP);
  const RunResult second = pull({"org/model"}, {{"QWB_HUB_LOCK_PATIENCE", "0.5"}});
  EXPECT_EQ(second.code, 0) << second.err;
  EXPECT_THAT(second.err, HasSubstr("another process downloads"));
  EXPECT_THAT(second.err, HasSubstr("makes no headway"));
  expect_same(repo() / "snapshots" / model.commit, model, "model.safetensors");
  first.signal(SIGCONT);  // it finds the blob's place taken by the same content
  EXPECT_EQ(first.wait(), 0);
  expect_same(repo() / "snapshots" / model.commit, model, "model.safetensors");
  expect_clean(repo());
}

TEST_F(SlowInterruption, LocksLeftBehindDoNotBlock) {
  FakeRepo& model = add_model();
  const Path lock =
      cache() / ".locks/models--org--model" / (model.find("model.safetensors")->etag + ".lock");
  fs::create_directories(lock.parent_path());
  std::ofstream(lock) << "12345";  // as a killed process leaves it: there, but not held
  fs::create_directories(repo() / "blobs");
  std::ofstream(repo() / "blobs" / (model.find("model.safetensors")->etag + ".incomplete"))
      << "what others left";
  std::ofstream(repo() / "blobs" / (model.find("model.safetensors")->etag + ".0a1b2c3d.incomplete"))
      << "what others left";
  expect_same(pulled({"org/model"}), model, "model.safetensors");
}

TEST_F(SlowInterruption, PythonHoldsTheLock) {
  FakeRepo& model = add_model();
  const Path lock =
      cache() / ".locks/models--org--model" / (model.find("model.safetensors")->etag + ".lock");
  fs::create_directories(lock.parent_path());
  const int fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  ASSERT_EQ(::flock(fd, LOCK_EX), 0);  // what its filelock does
  Child child(environment(), {"org/model"});
  ASSERT_TRUE(
      wait_for([&] { return fs::exists(repo() / "blobs" / model.find("tokenizer.json")->etag); }));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_TRUE(child.running());
  EXPECT_EQ(hub_->count("/blob/"), 0);
  // It ends, and its blob is there.
  write_file_atomically(repo() / "blobs" / model.find("model.safetensors")->etag,
                        model.find("model.safetensors")->content);
  ::close(fd);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(hub_->count("/blob/"), 0);
  expect_clean(repo());
}

TEST_F(SlowInterruption, ControlC) {
  start({.bytes_per_second = 1e6});
  FakeRepo& model = add_model("org/model", 12 << 20);
  Child child(environment(), {"org/model"});
  ASSERT_TRUE(wait_for([&] { return hub_->bytes_sent() > 1 << 20; }));
  child.signal(SIGINT);
  EXPECT_EQ(child.wait(), 130);
  EXPECT_FALSE(fs::exists(repo() / "refs"));
  pulled({"org/model"});
  expect_same(repo() / "snapshots" / model.commit, model, "model.safetensors");
  expect_clean(repo());
  EXPECT_LT(hub_->bytes_sent(), (12 << 20) * 1.1);
}

TEST_F(SlowInterruption, MemoryDoesNotGrowWithTheFile) {
  FakeRepo& model = hub_->add("org/model");
  model.put("config.json", "{}");
  const Path large = scratch_.path() / "large";
  std::ofstream(large) << "x";
  fs::resize_file(large, 400'000'000);
  const auto content = std::make_shared<MappedFile>(MappedFile::open(large));
  model.put_view("model.safetensors", content->bytes(), content, true);
  Child child(environment(), {"org/model"});
  int64_t peak = 0;
  while (child.running()) {
    peak = std::max(peak, child.peak_memory());
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(fs::file_size(repo() / "snapshots" / model.commit / "model.safetensors"), 400'000'000u);
  EXPECT_GT(peak, 5'000'000);
  EXPECT_LT(peak, 40'000'000);
  std::printf("peak %.1f MB\n", static_cast<double>(peak) / 1e6);
}

// A disk that is full at `limit` bytes of a file.
TEST_F(SlowInterruption, AFullDisk) {
  FakeRepo& model = add_model("org/model", 12 << 20);
  for (const int64_t limit : {0, 10'000, 5'000'000, (12 << 20) + 8}) {
    const RunResult result = tool("pull", {"org/model"}, {}, {.file_size_limit = limit});
    EXPECT_EQ(result.code, 1) << limit << result.err;
    EXPECT_THAT(result.err, HasSubstr("cannot")) << limit;
    EXPECT_FALSE(fs::exists(repo() / "snapshots" / model.commit / "model.safetensors"));
    expect_clean(repo(), true);
  }
  expect_same(pulled({"org/model"}), model, "model.safetensors");
  expect_clean(repo());
}

TEST_F(SlowInterruption, TheDiskIsTooSmallFromTheStart) {
  const int64_t free = free_disk_space(scratch_.path());
  hub_->add("org/model");
  hub_->misbehave({.match = "/revision/",
                   .times = -1,
                   .status = 200,
                   .body = R"({"sha": ")" + std::string(40, 'c') + "\"}"});
  hub_->misbehave({.match = "/tree/",
                   .times = -1,
                   .status = 200,
                   .body = R"([{"type": "file", "path": "config.json", "oid": ")" +
                           std::string(40, 'a') + R"(", "size": )" +
                           std::to_string(free + 1'000'000) + "}]"});
  const RunResult result = pull({"org/model"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("are missing and the disk has only"));
  EXPECT_THAT(result.err, HasSubstr("HF_HOME"));
  EXPECT_EQ(hub_->count("/resolve/"), 0);
}

// What a damaged note claims is found out by the hash, and fetched again.
TEST_F(SlowInterruption, ADamagedPartial) {
  FakeRepo& model = add_model("org/model", 12 << 20);
  tool("pull", {"org/model"}, {}, {.file_size_limit = 9'000'000});
  hub_->misbehave({.match = "/blob/", .times = -1, .cut_at = 1'000'000});
  pull({"org/model"}, {{"HF_HUB_DOWNLOAD_TIMEOUT", "1"}});
  hub_->behave();
  fs::remove_all(repo() / "snapshots");
  fs::remove_all(repo() / "refs");
  const Path blob = repo() / "blobs" / model.find("model.safetensors")->etag;
  if (fs::exists(blob)) fs::rename(blob, blob.string() + ".moved");
  fs::remove(blob.string() + ".moved");
  // A file of the full size under the name of a partial says "all is here"; it is not.
  hub_->misbehave({.match = "/blob/", .times = -1, .stall_at = 100'000});
  Child child(environment(), {"org/model"});
  ASSERT_TRUE(wait_for([&] {
    for (const std::string& name : files(repo() / "blobs"))
      if (name.ends_with(".incomplete")) return true;
    return false;
  }));
  child.signal(SIGKILL);
  child.wait();
  hub_->behave();
  for (const std::string& name : files(repo() / "blobs")) {
    if (name.ends_with(".incomplete"))
      write_file_atomically(repo() / "blobs" / name, as_bytes(random_bytes(12 << 20, 99)));
  }
  const RunResult result = pull({"org/model"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("downloading it anew"));
  expect_same(repo() / "snapshots" / model.commit, model, "model.safetensors");
  expect_clean(repo());
}

}  // namespace
}  // namespace qwb::testing
