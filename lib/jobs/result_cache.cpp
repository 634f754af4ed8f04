#include "lib/jobs/result_cache.h"

#include <chrono>
#include <cstring>
#include <fstream>

#include "lib/base/error.h"
#include "lib/base/file_lock.h"
#include "lib/base/hash.h"

namespace qwb {
namespace {

constexpr size_t kHashDigits = 32;
constexpr double kFlushSeconds = 2;
constexpr double kOldestSeconds = 14 * 24 * 3600.0;  // of a journal that nobody came back to

std::string record_text(std::span<const double> numbers) {
  std::string text(sizeof(uint64_t) + numbers.size_bytes(), '\0');
  const uint64_t count = numbers.size();
  std::memcpy(text.data(), &count, sizeof count);
  if (count > 0) std::memcpy(text.data() + sizeof count, numbers.data(), numbers.size_bytes());
  return text + hash_hex(as_bytes(text));
}

// Takes the whole records from the front of `text`; returns how many bytes they fill.
size_t take_records(std::string_view text, std::vector<std::vector<double>>& records) {
  size_t place = 0;
  while (text.size() - place >= sizeof(uint64_t) + kHashDigits) {
    uint64_t count = 0;
    std::memcpy(&count, text.data() + place, sizeof count);
    const size_t room = text.size() - place - sizeof count - kHashDigits;
    if (count > room / sizeof(double)) break;
    const size_t bytes = sizeof count + count * sizeof(double);
    const std::string_view body = text.substr(place, bytes);
    if (text.substr(place + bytes, kHashDigits) != hash_hex(as_bytes(body))) break;
    std::vector<double> numbers(count);
    if (count > 0) std::memcpy(numbers.data(), body.data() + sizeof count, count * sizeof(double));
    records.push_back(std::move(numbers));
    place += bytes + kHashDigits;
  }
  return place;
}

class FileJournal : public WorkJournal {
 public:
  FileJournal(Path file, std::shared_ptr<FileLock> lock)
      : file_(std::move(file)), lock_(std::move(lock)) {
    const size_t whole = take_records(read_text(file_), finished_);
    std::filesystem::resize_file(file_, whole);
    out_.open(file_, std::ios::binary | std::ios::app);
  }

  const std::vector<std::vector<double>>& finished() const override { return finished_; }

  void add(std::span<const double> numbers) override {
    const std::string text = record_text(numbers);
    out_.write(text.data(), static_cast<std::streamsize>(text.size()));
    const auto now = std::chrono::steady_clock::now();
    if (std::chrono::duration<double>(now - flushed_).count() < kFlushSeconds) return;
    out_.flush();
    flushed_ = now;
  }

  void remove() override {
    std::error_code ignored;
    std::filesystem::remove(file_, ignored);
  }

 private:
  Path file_;
  std::shared_ptr<FileLock> lock_;
  std::vector<std::vector<double>> finished_;
  std::ofstream out_;
  std::chrono::steady_clock::time_point flushed_ = std::chrono::steady_clock::now();
};

void sweep(const Path& folder) noexcept {
  std::error_code error;
  const auto oldest = std::filesystem::file_time_type::clock::now() -
                      std::chrono::duration_cast<std::filesystem::file_time_type::duration>(
                          std::chrono::duration<double>(kOldestSeconds));
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (std::filesystem::last_write_time(entry.path(), error) < oldest && !error)
      std::filesystem::remove(entry.path(), error);
  }
}

}  // namespace

ResultCache::ResultCache(const Context& context, const Path& root)
    : root_(root.empty() ? find_cache_root().value_or(Path()) : root), context_(context) {
  if (root_.empty()) {
    warn_once("there is no place for the cache (HOME is not set, nor QWB_CACHE)");
  } else {
    store_.emplace(Store::Options{.root = root_ / "results", .context = context_});
  }
}

void ResultCache::warn_once(const std::string& what) {
  if (!warned_) context_.progress->note("results cannot be kept: " + what);
  warned_ = true;
}

std::optional<Json> ResultCache::find(const Json& key) {
  if (!store_) return std::nullopt;
  try {
    const std::optional<CacheObject> object = store_->find(Key{key});
    if (!object) return std::nullopt;
    const Path file = object->data / "result.json";
    return parse_json(read_text(file), file.string());
  } catch (const std::exception&) {
    return std::nullopt;  // measured again
  }
}

std::vector<std::pair<Json, Json>> ResultCache::of_model(
    const std::string& hash, const std::function<bool(const Json& key)>& wanted) const {
  std::vector<std::pair<Json, Json>> found;
  if (!store_) return found;
  try {
    for (const CacheEntry& entry : store_->list()) {
      if (!json_has(entry.fields, "model") || entry.fields.at("model") != Json(hash)) continue;
      if (!wanted(entry.fields)) continue;
      const std::optional<CacheObject> object = store_->find(Key{entry.fields});  // undamaged ones
      if (!object) continue;
      const Path file = object->data / "result.json";
      found.emplace_back(entry.fields, parse_json(read_text(file), file.string()));
    }
  } catch (const std::exception&) {
    return found;
  }
  return found;
}

void ResultCache::keep(const Json& key, const Json& result) {
  if (!store_) return;
  try {
    // With --fresh there may be one already: the new one takes its place.
    const std::string hex = Key{key}.hex();
    if (store_->find(Key{key})) store_->remove(hex);
    const std::string text = json_text(result);
    store_->build(Key{key}, [&](const Path& folder) {
      write_file_atomically(folder / "result.json", as_bytes(text));
    });
  } catch (const std::exception& error) {
    warn_once(as_error(error).what());
  }
}

std::unique_ptr<WorkJournal> ResultCache::journal(const Json& key) {
  if (!store_) return nullptr;
  try {
    const Path folder = root_ / "evaluations", file = folder / Key{key}.hex();
    std::filesystem::create_directories(folder);
    sweep(folder);
    std::ofstream(file, std::ios::app).flush();
    auto [lock, outcome] = FileLock::take(file, FileLock::Mode::exclusive);
    if (outcome == FileLock::Outcome::busy) {
      context_.progress->note("another process measures the same: this one keeps no progress");
      return nullptr;
    }
    return std::make_unique<FileJournal>(file, std::move(lock));
  } catch (const std::exception& error) {
    warn_once(as_error(error).what());
    return nullptr;
  }
}

}  // namespace qwb
