#include "lib/jobs/run_journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "formats/safetensors/safetensors.h"
#include "lib/base/error.h"
#include "lib/base/file_hash.h"
#include "lib/base/hash.h"
#include "lib/codec/registry.h"
#include "lib/quantize/encode/module_weight.h"

namespace qwb {
namespace {

constexpr const char* kReplaced =
    "replaced ";  // before the names of tensors that are no module's part
constexpr int64_t kPieceRows = 4096;

Json report_json(const PlannedModule& module, const QuantizedTensor& tensor,
                 const ModuleReport& report) {
  Json json = {{"name", module.info.name},
               {"weights", report.weights},
               {"bytes", report.bytes},
               {"weight_error", report.weight_error},
               {"output_error", report.output_error ? Json(*report.output_error) : Json(nullptr)},
               {"seconds", report.seconds},
               {"details", report.details},
               {"parameters", tensor.encoding->parameters()}};
  return json;
}

// What quantizing told besides the parts.
void set_parameters(QuantizedTensor& tensor, const Json& parameters, const std::string& where) {
  const PartViews views = tensor.part_views();
  tensor.encoding =
      layout_of(read_weight(tensor, tensor.codec(), parameters, views, where)).encoding;
}

ModuleReport report_of(const Json& json, const std::string& where) {
  ModuleReport report;
  report.name = json_string(json, "name", where);
  report.weights = json_int(json, "weights", where);
  report.bytes = json_int(json, "bytes", where);
  report.weight_error = json_number(json, "weight_error", where);
  if (json_has(json, "output_error"))
    report.output_error = json_number(json, "output_error", where);
  report.seconds = json_number(json, "seconds", where);
  report.details = json.at("details");
  return report;
}

// The rows of a stream in pieces, with their bytes in the file's order.
template <typename Use>
void for_pieces(const HalfRows& rows, const Use& use) {
  const int64_t row_bytes = rows.columns() * 2;
  std::vector<std::byte> bytes(
      static_cast<size_t>(std::min(kPieceRows, rows.rows()) * (row_bytes + 4)));
  for (int64_t first = 0; first < rows.rows(); first += kPieceRows) {
    const int64_t count = std::min(kPieceRows, rows.rows() - first);
    use(first, count, bytes.data(), count * row_bytes);
  }
}

// modules: the hash of each block's file of modules.
Json header_of(const ResidualStream& stream, const ResidualStream* reference,
               const std::vector<std::string>& modules) {
  return {{"rows", stream.rows().rows()},
          {"columns", stream.rows().columns()},
          {"streams", reference != nullptr ? 2 : 1},
          {"modules", modules},
          {"hash", "at the end"}};
}

Json read_header(std::istream& in, const Path& file) {
  std::string header;
  std::getline(in, header);
  return parse_json(header, file.string());
}

std::vector<const HalfRows*> all_rows(const ResidualStream& stream,
                                      const ResidualStream* reference) {
  std::vector<const HalfRows*> all = {&stream.rows()};
  if (reference != nullptr) all.push_back(&reference->rows());
  return all;
}

// The hash stands at the end, because it is known then: "\n<32 hex>".
constexpr int64_t kTrailer = 33;

bool whole(const Path& file) {
  std::ifstream in(file, std::ios::binary);
  std::error_code error;
  const auto size = static_cast<int64_t>(std::filesystem::file_size(file, error));
  if (error || size < kTrailer) return false;
  Hasher hasher;
  std::vector<char> piece(size_t{1} << 20);
  for (int64_t left = size - kTrailer; left > 0;) {
    const int64_t count = std::min<int64_t>(left, static_cast<int64_t>(piece.size()));
    if (!in.read(piece.data(), count)) return false;
    hasher.bytes(std::as_bytes(std::span(piece.data(), static_cast<size_t>(count))));
    left -= count;
  }
  std::string trailer(static_cast<size_t>(kTrailer), ' ');
  in.read(trailer.data(), kTrailer);
  return static_cast<bool>(in) && trailer == "\n" + hasher.hex();
}

}  // namespace

Path RunJournal::modules_file(int64_t block) const {
  return folder_ / fmt::format("modules-{:05}.safetensors", block);
}
Path RunJournal::streams_file(int64_t block) const {
  return folder_ / fmt::format("streams-{:05}", block);
}

std::unique_ptr<RunJournal> RunJournal::open(const Path& folder, const Plan& plan, ModuleSink& next,
                                             const Context& context) {
  std::unique_ptr<RunJournal> journal(new RunJournal(folder, plan, next, context));
  try {
    std::filesystem::create_directories(folder);
    const Path lock = folder / "lock";
    std::ofstream(lock, std::ios::app).flush();
    FileLock::Outcome outcome = FileLock::Outcome::impossible;
    std::tie(journal->lock_, outcome) = FileLock::take(lock, FileLock::Mode::exclusive);
    if (outcome == FileLock::Outcome::busy) {
      context.progress->note("another process does the same work: this one keeps no progress");
      return nullptr;
    }
    journal->look_back();
  } catch (const std::exception& error) {
    context.progress->note("progress cannot be kept: " + std::string(as_error(error).what()));
    return nullptr;
  }
  return journal;
}

// True if the streams of this block and all modules until it are as they were written.
bool RunJournal::usable(int64_t block) {
  module_hashes_.clear();
  if (!whole(streams_file(block))) return false;
  std::ifstream in(streams_file(block), std::ios::binary);
  const Json header = read_header(in, streams_file(block));
  for (int64_t b = 1; b <= block; ++b) {
    if (!std::filesystem::exists(modules_file(b))) return false;
    module_hashes_.push_back(file_hash(modules_file(b), context_.stop));
  }
  return header.at("modules") == Json(module_hashes_);
}

// The newest block whose progress is usable; everything else goes.
void RunJournal::look_back() {
  std::vector<int64_t> blocks;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("streams-") && name.size() == 13)
      blocks.push_back(std::stoll(name.substr(8)));
  }
  std::sort(blocks.rbegin(), blocks.rend());
  for (const int64_t block : blocks) {
    if (!usable(block)) continue;
    finished_ = block;
    break;
  }
  if (finished_ == 0) module_hashes_.clear();
  const std::string kept = streams_file(finished_).filename().string();
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    const bool needed = name == "lock" || (finished_ > 0 && name == kept) ||
                        (name.starts_with("modules-") && !name.ends_with(".tmp") &&
                         std::stoll(name.substr(8)) <= finished_);
    if (!needed) std::filesystem::remove(entry.path());
  }
}

void RunJournal::replay() {
  for (int64_t block = 1; block <= finished_; ++block) replay(block);
  if (finished_ > 0)
    context_.progress->note(
        fmt::format("going on after block {} of an interrupted run", finished_));
}

void RunJournal::replay(int64_t block) {
  const SafetensorsFile file = SafetensorsFile::open(modules_file(block));
  const std::string where = modules_file(block).string();
  const Json reports = parse_json(file.header().metadata.at("reports"), where);
  for (const Json& json : reports) {
    const ModuleReport report = report_of(json, where);
    const auto planned =
        std::find_if(plan_.modules.begin(), plan_.modules.end(),
                     [&](const PlannedModule& m) { return m.info.name == report.name; });
    if (planned == plan_.modules.end())
      throw Error(ErrorKind::failed, "unknown module " + report.name, where);
    QuantizedTensor tensor(planned->layout);
    for (auto& [name, part] : tensor.parts) {
      const auto stored = file.find(report.name + "." + name);
      if (!stored || stored->bytes.size() != part.bytes().size())
        throw Error(ErrorKind::failed, "a part of " + report.name + " is missing", where);
      std::copy(stored->bytes.begin(), stored->bytes.end(), part.bytes().begin());
    }
    set_parameters(tensor, json.at("parameters"), where);
    next_.put(*planned, tensor, report);
  }
  const std::string prefix = kReplaced;
  for (const SafetensorsEntry& entry : file.header().tensors) {
    if (entry.name.starts_with(prefix))
      next_.replace(entry.name.substr(prefix.size()), file.view(entry));
  }
}

void RunJournal::put(const PlannedModule& module, const QuantizedTensor& tensor,
                     const ModuleReport& report) {
  next_.put(module, tensor, report);
  if (broken_) return;
  for (const auto& [name, part] : tensor.parts) {
    const TensorView view = part.view();
    specs_.push_back({module.info.name + "." + name, view.dtype, view.shape});
    parts_.emplace_back(specs_.back().name,
                        std::vector<std::byte>(view.bytes.begin(), view.bytes.end()));
  }
  reports_.push_back(report_json(module, tensor, report));
}

void RunJournal::replace(const std::string& tensor, const TensorView& values) {
  next_.replace(tensor, values);
  if (broken_) return;
  specs_.push_back({kReplaced + tensor, values.dtype, values.shape});
  parts_.emplace_back(specs_.back().name,
                      std::vector<std::byte>(values.bytes.begin(), values.bytes.end()));
}

void RunJournal::write_modules(int64_t block) {
  const Path file = modules_file(block), temporary = file.string() + ".tmp";
  std::filesystem::remove(temporary);
  SafetensorsWriter writer(temporary, specs_, {{"reports", reports_.dump()}});
  for (const auto& [name, bytes] : parts_) writer.put(name, bytes);
  writer.finish();
  module_hashes_.push_back(file_hash(temporary, context_.stop));
  std::filesystem::rename(temporary, file);
}

void RunJournal::write_streams(int64_t block, const ResidualStream& stream,
                               const ResidualStream* reference) {
  const Path file = streams_file(block), temporary = file.string() + ".tmp";
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  Hasher hasher;
  const auto write = [&](const void* data, int64_t size) {
    out.write(static_cast<const char*>(data), size);
    hasher.bytes({static_cast<const std::byte*>(data), static_cast<size_t>(size)});
  };
  const std::string header = header_of(stream, reference, module_hashes_).dump() + "\n";
  write(header.data(), static_cast<int64_t>(header.size()));
  for (const HalfRows* rows : all_rows(stream, reference)) {
    for_pieces(*rows, [&](int64_t first, int64_t count, std::byte* bytes, int64_t half_bytes) {
      rows->read_raw(first, count, bytes, reinterpret_cast<float*>(bytes + half_bytes));
      write(bytes, half_bytes + count * 4);
    });
  }
  out << "\n" << hasher.hex();
  out.close();
  if (!out) throw Error(ErrorKind::failed, "cannot write", temporary.string(), "is the disk full?");
  // Not flushed to the disk: a killed process loses nothing, and after a power cut the hash tells.
  std::filesystem::rename(temporary, file);
}

void RunJournal::save(int64_t blocks, const ResidualStream& stream,
                      const ResidualStream* reference) {
  if (!broken_) {
    try {
      write_modules(blocks);
      write_streams(blocks, stream, reference);
      if (blocks > 1) std::filesystem::remove(streams_file(blocks - 1));
    } catch (const std::exception& error) {
      broken_ = true;
      remove_tree(folder_);
      context_.progress->note("from here on no progress is kept: " +
                              std::string(as_error(error).what()));
    }
  }
  specs_.clear();
  parts_.clear();
  reports_ = Json::array();
}

void RunJournal::restore(ResidualStream& stream, ResidualStream* reference) {
  const Path file = streams_file(finished_);
  std::ifstream in(file, std::ios::binary);
  if (read_header(in, file) != header_of(stream, reference, module_hashes_))
    throw Error(ErrorKind::failed, "the saved activations are of another run", file.string(),
                "use --no-resume");
  for (ResidualStream* target : {&stream, reference}) {
    if (target == nullptr) continue;
    HalfRows& rows = target->rows();
    for_pieces(rows, [&](int64_t first, int64_t count, std::byte* bytes, int64_t half_bytes) {
      in.read(reinterpret_cast<char*>(bytes), half_bytes + count * 4);
      rows.write_raw(first, count, bytes, reinterpret_cast<const float*>(bytes + half_bytes));
    });
  }
  if (!in)
    throw Error(ErrorKind::failed, "the saved activations end early", file.string(),
                "use --no-resume");
}

void RunJournal::remove() {
  remove_tree(folder_);
}

void RunJournal::sweep(const Path& journals, double max_age_seconds) noexcept {
  std::error_code error;
  const auto oldest = std::filesystem::file_time_type::clock::now() -
                      std::chrono::duration_cast<std::filesystem::file_time_type::duration>(
                          std::chrono::duration<double>(max_age_seconds));
  for (const auto& entry : std::filesystem::directory_iterator(journals, error)) {
    if (std::filesystem::last_write_time(entry.path(), error) > oldest || error) continue;
    const auto [lock, outcome] = FileLock::take(entry.path() / "lock", FileLock::Mode::exclusive);
    if (outcome != FileLock::Outcome::busy) remove_tree(entry.path());
  }
}

}  // namespace qwb
