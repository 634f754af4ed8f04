#include "lib/hub/download.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <random>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/hub/hub_error.h"

namespace qwb::hub {
namespace fs = std::filesystem;

namespace {

constexpr size_t kMostOpen = 8;         // files begun and not ended
constexpr double kLongestWait = 600;    // seconds that a server may ask for
constexpr int64_t kMostLag = 32 << 20;  // bytes that wait for being hashed
constexpr double kLockPoll = 0.1;       // seconds

const std::string& machine_name() {
  static const std::string name = [] {
    char host[256] = {};
    ::gethostname(host, sizeof(host) - 1);
    std::ifstream file("/etc/machine-id");
    std::string id;
    std::getline(file, id);
    return Hasher().field(id).field(host).hex().substr(0, 8);
  }();
  return name;
}

bool has_size(const Path& path, int64_t size) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_size == size;
}

// Changes whenever any process writes to an incomplete file of this blob.
std::string activity(const Path& blobs, const std::string& etag) {
  std::string text;
  std::error_code error;
  for (fs::directory_iterator it(blobs, error), end; !error && it != end; it.increment(error)) {
    struct stat status {};
    if (it->path().filename().string().find(etag) == std::string::npos ||
        ::stat(it->path().c_str(), &status) != 0)
      continue;
    text += std::to_string(status.st_mtim.tv_sec) + "." + std::to_string(status.st_mtim.tv_nsec) +
            " " + std::to_string(status.st_size) + " ";
  }
  return text;
}

}  // namespace

Path partial_path(const Path& blobs, const std::string& etag) {
  return blobs / (etag + "." + machine_name() + ".incomplete");
}

struct Downloader::Try {
  bool active = false;
  int failures = 0;  // in a row, without a new byte
  double not_before = 0;
};

struct Downloader::Job {
  enum class State { waiting, open, done };
  BlobRequest request;
  State state = State::waiting;
  std::shared_ptr<FileLock> lock;
  std::optional<Partial> partial;
  bool own_file = false;  // without a lock: a file of this process's own
  TransferSource source;
  std::vector<Try> tries;
  int mismatches = 0;
  int64_t expected = 0;  // bytes that the progress still counts on
  // While another process holds the lock.
  double next_look = 0, seen_at = 0;
  std::string seen;
  bool told = false;
};

Downloader::Downloader(Http& http, const HubSettings& settings, const RepoName& repo, Path blobs,
                       Path locks, const Context& context)
    : http_(http),
      settings_(settings),
      repo_(repo),
      blobs_(std::move(blobs)),
      locks_(std::move(locks)),
      context_(context),
      backoff_(settings.backoff_seconds, std::random_device{}()),
      follower_([&http] { http.wake(); }) {
  std::error_code error;
  fs::create_directories(blobs_, error);
  if (error) throw system_error("cannot create folder", blobs_.string(), error.value());
  remove_stale_temporaries(blobs_);
}

Downloader::~Downloader() {
  for (auto& [job, transfer] : transfers_) {
    try {
      transfer.flush();  // Ctrl-C: what has come is kept
    } catch (const std::exception&) {
      continue;  // a full disk was the reason, perhaps
    }
  }
  transfers_.clear();
  for (Job& job : jobs_) {
    if (!job.partial) continue;
    follower_.forget(*job.partial);
    if (job.own_file && job.state != Job::State::done) ::unlink(job.partial->path().c_str());
  }
}

double Downloader::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Downloader::run(const std::vector<BlobRequest>& requests) {
  int64_t total = 0;
  for (const BlobRequest& request : requests) {
    Job& job = jobs_.emplace_back();
    job.request = request;
    job.expected =
        request.size - Partial::present_in(partial_path(blobs_, request.etag), request.size);
    total = checked_add(total, job.expected, request.name);
  }
  left_ = count_ = requests.size();
  context_.progress->begin("downloading", total);
  while (left_ > 0) {
    fill();
    http_.step(left_ > 0 ? 0.05 : 0);
    for (auto& [job, transfer] : transfers_) transfer.flush();
    settle_transfers();
    settle_hashes();
  }
  sync_folder(blobs_);
  context_.progress->end();
}

void Downloader::fill() {
  const double time = now();
  for (Job& job : jobs_) {
    if (static_cast<int>(transfers_.size()) >= settings_.connections) return;
    if (job.state == Job::State::waiting && open_ < kMostOpen && time >= job.next_look &&
        !open(job))
      continue;
    if (job.state == Job::State::open && time >= pause_until_) begin_transfers(job);
  }
}

// True if the file is open for downloading now.
bool Downloader::open(Job& job) {
  const BlobRequest& request = job.request;
  if (has_size(blobs_ / request.etag, request.size)) {
    finish(job);
    return false;
  }
  const auto [lock, outcome] = FileLock::take(locks_ / (request.etag + ".lock"),
                                              FileLock::Mode::exclusive, FileLock::Missing::create);
  if (outcome == FileLock::Outcome::busy && wait_for_other(job)) return false;
  job.lock = lock;
  if (has_size(blobs_ / request.etag, request.size)) {  // the other one ended in between
    finish(job);
    return false;
  }
  job.own_file = outcome != FileLock::Outcome::taken;
  const Path path =
      job.own_file ? temporary_sibling(blobs_ / request.etag) : partial_path(blobs_, request.etag);
  job.partial.emplace(Partial::open(path, request.size));
  job.tries.assign(static_cast<size_t>(job.partial->piece_count()), Try());
  TransferSource& source = job.source;
  source = {};
  source.settings = &settings_;
  source.repo = &repo_;
  source.name = request.name;
  source.url = request.url;
  source.etag = request.etag;
  source.partial = &*job.partial;
  source.arrived = [this, &job](int64_t fresh) { arrived(job, fresh); };
  job.state = Job::State::open;
  ++open_;
  follower_.follow(*job.partial, request.etag);
  return true;
}

// Another process downloads this file. False if it makes no progress, so that waiting ends: the
// process may hang, and its lock with it.
bool Downloader::wait_for_other(Job& job) {
  const double time = now();
  job.next_look = time + kLockPoll;
  const std::string seen = activity(blobs_, job.request.etag);
  if (job.seen_at == 0 || seen != job.seen) {
    job.seen = seen;
    job.seen_at = time;
  }
  if (!std::exchange(job.told, true))
    context_.progress->note("another process downloads " + job.request.name + "; waiting for it");
  if (time - job.seen_at < settings_.lock_patience) return true;
  context_.progress->note("the other process makes no headway; downloading " + job.request.name +
                          " independently");
  return false;
}

void Downloader::begin_transfers(Job& job) {
  TransferSource& source = job.source;
  const double time = now();
  for (int64_t piece = 0; piece < job.partial->piece_count(); ++piece) {
    if (static_cast<int>(transfers_.size()) >= settings_.connections) return;
    // The first answer shows where the bytes are and whether ranges work.
    if (source.active > 0 && (source.whole || source.direct.empty())) return;
    const Try& attempt = job.tries[piece];
    if (job.partial->piece_next(piece) == job.partial->piece_end(piece) || attempt.active) continue;
    // Data need not arrive faster than it can be hashed: the processors are the limit then.
    if (source.active > 0 && follower_.lag(*job.partial) > kMostLag) return;
    if (time >= attempt.not_before) begin_transfer(job, piece);
    if (source.whole) return;  // the first gap decides when to try again
  }
}

void Downloader::begin_transfer(Job& job, int64_t piece) {
  job.tries[piece].active = true;
  transfers_.emplace_back(
      std::piecewise_construct, std::forward_as_tuple(&job),
      std::forward_as_tuple(http_, job.source, piece, job.partial->piece_next(piece),
                            job.partial->piece_end(piece)));
}

void Downloader::settle_transfers() {
  for (auto it = transfers_.begin(); it != transfers_.end();) {
    const auto current = it++;
    if (!current->second.result()) continue;
    settle(*current->first, current->second);
    transfers_.erase(current);
  }
}

void Downloader::settle(Job& job, const Transfer& transfer) {
  const Transfer::Result& result = *transfer.result();
  Try& attempt = job.tries[static_cast<size_t>(transfer.piece())];
  attempt.active = false;
  if (result.complete) {
    attempt.failures = 0;
    return;
  }
  const bool headway = result.fresh > 0;
  attempt.failures = headway ? 1 : attempt.failures + 1;
  if (attempt.failures >= settings_.attempts) throw *result.failure;
  if (attempt.failures > 1)
    job.source.direct = {};  // a signed URL that does not work: ask for another
  double wait = backoff_.wait(attempt.failures, headway);
  if (result.wait) {
    if (*result.wait > kLongestWait)
      throw Error(ErrorKind::not_found,
                  "the server asks to come back in " +
                      std::to_string(static_cast<int64_t>(*result.wait)) + " s",
                  job.request.name, "what was downloaded is kept");
    wait = std::max(wait, *result.wait);
    pause_until_ = std::max(pause_until_, now() + *result.wait);
  }
  if (wait >= 2)
    context_.progress->note(std::string(result.failure->what()) + "; trying again in " +
                            std::to_string(static_cast<int64_t>(wait)) + " s");
  attempt.not_before = now() + wait;
}

void Downloader::arrived(Job& job, int64_t fresh) {
  follower_.advance(*job.partial, job.partial->prefix());
  job.expected -= fresh;
  const size_t done = count_ - left_;
  context_.progress->advance(
      fresh, count_ == 1 ? job.request.name
                         : std::to_string(done) + " of " + std::to_string(count_) + " files");
}

void Downloader::settle_hashes() {
  for (const HashFollower::Result& result : follower_.take_results()) {
    const auto job = std::find_if(jobs_.begin(), jobs_.end(), [&](const Job& j) {
      return j.partial && &*j.partial == result.partial;
    });
    if (result.error) std::rethrow_exception(result.error);
    // The last byte may arrive before curl reports the end of its exchange.
    transfers_.remove_if([&](const auto& entry) { return entry.first == &*job; });
    if (result.hash == job->request.etag) {
      publish(*job);
      continue;
    }
    job->partial->reset();
    job->tries.assign(static_cast<size_t>(job->partial->piece_count()), Try());
    if (++job->mismatches > 1) {
      throw Error(ErrorKind::verification,
                  "the bytes received have not the announced hash (" + result.hash.substr(0, 12) +
                      " instead of " + job->request.etag.substr(0, 12) + ")",
                  job->request.name,
                  "nothing of it was kept; try again later, or another network or mirror");
    }
    context_.progress->note(job->request.name +
                            ": the bytes received are wrong; downloading it anew");
    job->source.direct = {};
    job->expected = job->request.size;
    follower_.follow(*job->partial, job->request.etag);
  }
}

// The file is verified, sealed and flushed: it gets its name.
void Downloader::publish(Job& job) {
  const Path blob = blobs_ / job.request.etag;
  if (::rename(job.partial->path().c_str(), blob.c_str()) != 0)
    throw system_error("cannot rename to", blob.string(), errno);
  --open_;
  finish(job);
}

void Downloader::finish(Job& job) {
  job.state = Job::State::done;
  --left_;
  context_.progress->advance(
      job.expected > 0 ? job.expected : 0,
      std::to_string(count_ - left_) + " of " + std::to_string(count_) + " files");
  job.expected = 0;
  job.partial.reset();
  job.lock.reset();
}

}  // namespace qwb::hub
