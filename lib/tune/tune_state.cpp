#include "lib/tune/tune_state.h"

#include <algorithm>
#include <fstream>
#include <span>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/pending_file.h"

namespace qwb {
namespace {

constexpr const char* kFormat = "qwb-tune-state";
constexpr int64_t kVersion = 1;

[[noreturn]] void damaged_state(const Path& file, const std::string& what) {
  throw Error(ErrorKind::failed, "the saved state " + what, file.string(),
              "--no-resume begins anew");
}

Bytes bytes_of(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

}  // namespace

TuneState::TuneState(const Path& folder) : folder_(folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw system_error("cannot make", folder.string(), error.value());
  const auto [lock, outcome] =
      FileLock::take(folder / "lock", FileLock::Mode::exclusive, FileLock::Missing::create);
  if (outcome == FileLock::Outcome::busy)
    throw Error(ErrorKind::usage, "another process tunes here", folder.string(),
                "choose another --out, or wait");
  lock_ = lock;
  remove_stale_temporaries(folder);
}

std::optional<SavedRun> TuneState::load() const {
  const Path file = folder_ / "state";
  if (!std::filesystem::exists(file)) return std::nullopt;
  const MappedFile mapped = MappedFile::open(file);
  const Bytes all = mapped.bytes();
  const std::string_view text(reinterpret_cast<const char*>(all.data()), all.size());
  const size_t end = text.find('\n');
  if (end == std::string_view::npos) damaged_state(file, "has no first line");
  SavedRun run;
  run.header = parse_json(text.substr(0, end), file.string());
  if (json_string(run.header, "format", file.string(), "") != kFormat)
    damaged_state(file, "is none of qwb-tune");
  if (json_int(run.header, "version", file.string()) != kVersion)
    throw Error(ErrorKind::unsupported, "the saved state is of another qwb", file.string(),
                "--no-resume begins anew");
  const Bytes values = all.subspan(end + 1);
  if (values.size() % sizeof(float) != 0 ||
      hash_hex(values) != json_string(run.header, "hash", file.string()))
    damaged_state(file, "is damaged");
  run.values.resize(values.size() / sizeof(float));
  std::copy(values.begin(), values.end(), std::as_writable_bytes(std::span(run.values)).begin());
  return run;
}

void TuneState::save(const SavedRun& run) const {
  Json header = {{"format", kFormat}, {"version", kVersion}};
  header.update(run.header);
  header["hash"] = hash_hex(bytes_of(run.values));
  // Not put together in memory: factors and moments are the largest part of a small run.
  const std::string line = header.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  const Bytes values = bytes_of(run.values);
  const auto begin = static_cast<int64_t>(line.size());
  PendingFile pending(folder_ / "state");
  OutputFile out = OutputFile::create(pending.path(), begin + static_cast<int64_t>(values.size()));
  out.write(0, std::as_bytes(std::span(line)));
  out.write(begin, values);
  out.finish();
  pending.commit(true);
}

void TuneState::clear() {
  for (const char* name : {"state", "log.jsonl", "best"}) remove_tree(folder_ / name);
  log_.clear();
}

void TuneState::cut_log(int64_t step) {
  log_.clear();
  std::ifstream in(log_file());
  for (std::string line; std::getline(in, line);) {
    // The last line of a killed run may be half a line.
    const Json record = Json::parse(line, nullptr, false);
    if (record.is_discarded() || !record.is_object()) break;
    if (json_int(record, "step", log_file().string(), 0) > step) break;
    log_.push_back(record);
  }
  in.close();
  const std::string kept = log_lines(log_);
  write_file_atomically(log_file(), std::as_bytes(std::span(kept)));
}

void TuneState::add_log(const Json& record) {
  log_.push_back(record);
  std::ofstream out(log_file(), std::ios::app);
  out << log_lines({record});
  out.flush();
  if (!out)
    throw Error(ErrorKind::failed, "cannot write", log_file().string(), "is the disk full?");
}

std::string log_lines(const std::vector<Json>& log) {
  std::string text;
  for (const Json& record : log)
    text += record.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  return text;
}

std::string log_csv(const std::vector<Json>& log) {
  std::vector<std::string> columns;
  for (const Json& record : log) {
    if (record.contains("held_out")) continue;
    for (const auto& [key, value] : record.items()) columns.push_back(key);
    break;
  }
  columns.insert(columns.end(), {"held_out_loss", "held_out_error"});
  std::string text;
  for (size_t i = 0; i < columns.size(); ++i) text += (i > 0 ? "," : "") + columns[i];
  text += "\n";
  for (const Json& record : log) {
    Json row = record;
    if (record.contains("held_out")) {
      row["held_out_loss"] = record["held_out"]["loss"];
      row["held_out_error"] = record["held_out"]["error"];
    }
    for (size_t i = 0; i < columns.size(); ++i) {
      if (i > 0) text += ",";
      if (json_has(row, columns[i])) text += row[columns[i]].dump();
    }
    text += "\n";
  }
  return text;
}

}  // namespace qwb
