#include "lib/jobs/quantize_job.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>

#include "formats/companions.h"
#include "formats/model_writer.h"
#include "formats/qwb/artifact.h"
#include "lib/adapt/peft_writer.h"
#include "lib/adapt/repair.h"
#include "lib/base/error.h"
#include "lib/base/memory.h"
#include "lib/base/names.h"
#include "lib/base/text.h"
#include "lib/base/text_file.h"
#include "lib/exec/cpu/isa.h"
#include "lib/exec/cpu/tile_product.h"
#include "lib/exec/devices.h"
#include "lib/hub/origin.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/convert_job.h"
#include "lib/jobs/requantize.h"
#include "lib/jobs/run_journal.h"
#include "lib/jobs/sources.h"
#include "lib/quantize/pipeline.h"
#include "lib/quantize/plan/estimate.h"

namespace qwb {
namespace {

// Raised when the way activations are propagated changes the bits of calibrated artifacts.
constexpr int64_t kPipelineVersion = 2;
constexpr int64_t kLongestDefault = 2048;
constexpr double kJournalAge = 30 * 86400.0;  // seconds; older progress is in the way

// Passes finished modules on to the artifact.
class WriterSink : public ModuleSink {
 public:
  WriterSink(ArtifactWriter& writer, const Plan& plan) : writer_(writer), plan_(plan) {}
  void put(const PlannedModule& module, const QuantizedTensor& tensor,
           const ModuleReport& report) override {
    Json result = {{"weight_error", report.weight_error}};
    if (!plan_.is_typical(module)) {
      result["method"] = module.method->name();
      result["method_version"] = module.method->version();
      result["settings"] = module.settings;
    }
    if (report.output_error) result["output_error"] = *report.output_error;
    result["seconds"] = report.seconds;
    result["details"] = report.details;
    writer_.put(module.info.name, tensor, result);
  }
  void replace(const std::string& tensor, const TensorView& values) override {
    writer_.replace(tensor, values);
  }

 private:
  ArtifactWriter& writer_;
  const Plan& plan_;
};

int64_t peak_resident_bytes() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

// How calibration held the operands of its matrix products, and what multiplied them.
std::string products_name(const Model& model) {
  if (model.executor().products() != Products::bf16) return "f32";
  return model.executor().device() != nullptr ? "bf16" : "bf16 by " + bf16_units();
}

// Of calibration. A GPU that was asked for is opened even where nothing will run on it: one that
// is not there is told.
std::unique_ptr<Executor> executor_for(const DeviceChoice& device, Threads threads) {
  if (device.kind == DeviceChoice::Kind::gpu)
    return make_cuda_calibration_executor(device.index, threads);
  return make_executor(calibration_executor(), threads);
}

std::vector<NamedLayout> planned_layouts(const Plan& plan) {
  std::vector<NamedLayout> modules;
  for (const PlannedModule& planned : plan.modules)
    modules.push_back({planned.info.name, planned.layout});
  return modules;
}

}  // namespace

QuantizeJob::QuantizeJob(QuantizeRequest request, const Context& context)
    : QuantizeJob(open_model(request.model, context), request, context) {}

QuantizeJob::QuantizeJob(OpenModel open, QuantizeRequest request, const Context& context)
    : request_(std::move(request)) {
  if (!open.manifest.is_null()) {
    throw Error(ErrorKind::usage, "this is an artifact already", request_.model.string(),
                "start from the original checkpoint");
  }
  // Nothing but calibration runs the model here.
  loaded_ = load_model(std::move(open),
                       {.executor = executor_for(request_.device, context.threads),
                        .tokenizer = false,
                        .use = ModelUse::single_blocks},
                       context);
  plan_ = plan_modules(model(), request_.plan);
  if (request_.format != nullptr) check_plan_fits(plan_, source(), *request_.format);
  for (const std::string& note : plan_.notes) context.progress->note(note);
  if (request_.repair_rank > 0 && !plan_.needs_calibration())
    throw Error(
        ErrorKind::usage,
        "method " + plan_.method_name() + " sees no inputs, and a repair adapter needs them", {},
        "take gptq");
  if (plan_.needs_calibration()) {
    calibrate(context);
  } else if (!request_.calibration.sources.empty()) {
    context.progress->note("method " + plan_.method_name() +
                           " needs no calibration: --calib is ignored");
  }
}

void QuantizeJob::calibrate(const Context& context) {
  CalibrationRequest& calibration = request_.calibration;
  const Tokenizer tokenizer = open_tokenizer(loaded_.open);
  if (const std::string note = tokenizer.note(); !note.empty()) context.progress->note(note);
  std::string saved;
  for (const CalibrationSource& source : calibration.sources) {
    if (has_suffix(source.name, kCalibrationExtension)) saved = source.name;
  }
  if (saved.empty()) {
    calibration_ = new_calibration_set(tokenizer, context);
    return;
  }
  if (calibration.sources.size() > 1 || request_.calibration_flags) {
    throw Error(ErrorKind::usage, "a saved calibration set is used as it is", saved,
                calibration.sources.size() > 1
                    ? "leave the other --calib out"
                    : "leave --samples, --length, --seed, --documents and --chat-template out");
  }
  calibration_ = load_calibration_set(saved, tokenizer);
}

CalibrationSet QuantizeJob::new_calibration_set(const Tokenizer& tokenizer,
                                                const Context& context) {
  CalibrationRequest& calibration = request_.calibration;
  if (calibration.sources.empty()) {
    calibration.sources.push_back({"demo"});
    context.progress->note("no --calib given: calibrating with the demo text");
  }
  if (calibration.length == 0)
    calibration.length = std::min(kLongestDefault, model().config().max_positions);
  std::vector<Path> files;
  for (const CalibrationSource& source : calibration.sources) {
    files.push_back(source.name == "demo" ? demo_path("text/calib.jsonl")
                                          : calibration_file(source.name, context));
  }
  RenderChat render;
  if (request_.chat_template) {
    render = [chat = loaded_.chat_template()](const Conversation& conversation) {
      ChatTemplate::Options options = chat_options(conversation);
      options.add_generation_prompt = false;
      options.now = 0;  // a template that tells the date must not change the key
      for (const Json& message : conversation.messages) {
        if (json_has(message, "function_call") && !chat.mentions("function_call"))
          throw Error(ErrorKind::unsupported,
                      "the chat template does not write function_call, the old form of tool calls",
                      {}, "give the calls as tool_calls");
      }
      return chat.render(conversation.messages, options);
    };
  }
  return make_calibration_set(calibration, files, tokenizer, render, context);
}

int64_t QuantizeJob::artifact_bytes() const {
  int64_t bytes = plan_.bytes;
  for (const std::string& name : loaded_.open.source->names())
    bytes += part_bytes(loaded_.open.source->describe(name).value());
  for (const PlannedModule& module : plan_.modules)
    bytes -= part_bytes(loaded_.open.source->describe(module.info.name + ".weight").value());
  return bytes;
}

namespace {

// How a plan enters the key: by what the modules get, not by how it was asked for. The typical
// method and settings stand at the top; "modules" has the modules of the blocks that get something
// else or nothing, and every embedding that gets anything.
void add_plan(const Plan& plan, Json& fields) {
  const PlannedModule& typical = plan.typical();
  fields["method"] = typical.method->name();
  fields["method_version"] = typical.method->version();
  fields["settings"] = typical.settings;
  Json modules = Json::object();
  for (const PlannedModule& module : plan.modules) {
    if (module.role == PlannedModule::Role::linear && plan.is_typical(module)) continue;
    modules[module.info.name] = {{"method", module.method->name()},
                                 {"method_version", module.method->version()},
                                 {"settings", module.settings}};
  }
  for (const std::string& name : plan.kept) modules[name] = "kept";
  if (!modules.empty()) fields["modules"] = std::move(modules);
}

}  // namespace

Key QuantizeJob::key(const Context& context) const {
  Key key;
  key.fields["source"] = loaded_.open.content_hash(default_memo_folder(), context);
  key.fields["companions"] = companion_hash(loaded_.open);
  key.fields["format_version"] = kArtifactVersion;
  add_plan(plan_, key.fields);
  key.fields["isa"] = isa_name();
  if (calibration_) {
    key.fields["isa"] = arithmetic_of(model().executor());
    key.fields["calibration"] = calibration_->hash;
    key.fields["products"] = products_name(model());
    key.fields["calibration_length"] = calibration_->length;
    key.fields["pipeline_version"] = kPipelineVersion;
  }
  return key;
}

double QuantizeJob::estimate_seconds(const Context& context) const {
  return qwb::estimate_seconds(model(), plan_, calibration(), context);
}

Provenance QuantizeJob::provenance(const Context& context) const {
  const PlannedModule& typical = plan_.typical();
  const std::optional<std::string> revision = hub::commit_of(request_.model);
  Provenance provenance;
  provenance.source = {
      {"name", std::filesystem::weakly_canonical(request_.model).filename().string()},
      {"path", std::filesystem::absolute(request_.model).lexically_normal().string()},
      {"revision", revision ? Json(*revision) : Json(nullptr)},
      {"hash", loaded_.open.content_hash(default_memo_folder(), context)}};
  if (!request_.made_of.is_null()) {
    // The model itself lies nowhere.
    provenance.source["path"] = "";
    provenance.source["revision"] = nullptr;
    provenance.source["made_of"] = request_.made_of;
  }
  provenance.method = typical.method->name();
  provenance.method_version = typical.method->version();
  provenance.settings = typical.settings;
  provenance.isa = isa_name();
  if (calibration_) {
    provenance.isa = arithmetic_of(model().executor());
    provenance.products = products_name(model());
  }
  provenance.bits = plan_.bits();
  provenance.kept = plan_.kept;
  provenance.calibration = calibration_ ? calibration_->manifest : Json(nullptr);
  return provenance;
}

MemoryPlan QuantizeJob::memory_plan(int64_t limit, const Path& scratch) const {
  const bool asked = limit > 0;
  if (!asked) limit = available_memory();
  const MemoryNeed need = estimate_memory(model(), plan_, calibration());
  MemoryPlan plan;
  plan.peak = need.fixed + need.kept + need.streams;
  if (plan.peak > limit && need.kept > 0) {
    plan.kept_scratch = scratch;
    plan.peak -= need.kept;
    plan.scratch += need.kept;
  }
  if (plan.peak > limit && need.streams > 0) {
    plan.stream_scratch = scratch;
    plan.peak -= need.streams;
    plan.scratch += need.streams;
  }
  if (plan.peak > limit) {
    throw Error(ErrorKind::failed,
                "the work needs about " + human_bytes(plan.peak) + " of memory, and " +
                    (asked ? "--max-memory allows " : "the machine has ") + human_bytes(limit) +
                    (asked ? "" : " free"),
                {}, "use shorter windows (--length), or allow more by --max-memory");
  }
  // Activations, the artifact, and its copy with the streams in the journal.
  const int64_t streams = calibration_ ? need.streams : 0;
  const int64_t disk =
      plan.scratch + artifact_bytes() + (calibration_ ? plan_.bytes + 2 * streams : 0);
  if (free_disk_space(scratch) < disk) {
    throw Error(ErrorKind::failed,
                "the work needs about " + human_bytes(disk) + " on disk, and " +
                    human_bytes(free_disk_space(scratch)) + " are free",
                scratch.string(), "free some space, or point QWB_CACHE at another disk");
  }
  return plan;
}

Path QuantizeJob::scratch_folder(const Store* store) const {
  if (store != nullptr) return store->root();
  return request_.place ? request_.place->parent_path() : Path(".");
}

void QuantizeJob::save_calibration(const Path& file, Outputs& outputs, bool only_check,
                                   const Context& context) const {
  if (!calibration_)
    throw Error(ErrorKind::usage, "there is nothing to save: the plan needs no calibration",
                file.string());
  const std::string text = calibration_set_text(*calibration_);
  std::error_code error;
  if (std::filesystem::is_regular_file(file, error) && read_text(file) == text) return;
  if (!outputs.force() && is_calibration_file(file)) {
    throw Error(ErrorKind::usage, "the file holds another calibration set", file.string(),
                "choose another name or add --force");
  }
  const Path place = outputs.file(file, "--save-calib", is_calibration_file);
  if (only_check) return;
  write_file_atomically(place, as_bytes(text), outputs.force());
  context.progress->note("calibration set saved: " + file.string());
}

MadeArtifact QuantizeJob::run(const Store* store, const BuildOptions& options,
                              const Context& context) const {
  const std::optional<Path>& place = request_.place;
  if (store == nullptr || request_.repair_rank > 0) {
    write(place.value(), context,
          {.replace = request_.replace,
           .memory = memory_plan(options.max_memory, scratch_folder(nullptr))});
    return {*place, std::nullopt};
  }
  const CachedArtifact kept = build(*store, options, context);
  if (!place) return {kept.folder, kept};
  if (request_.format != nullptr) {
    ConvertJob conversion(open_model(kept.folder, context.silent()),
                          {.format = request_.format->name, .replace = request_.replace}, context);
    conversion.write(*place);
    conversion.log(true, *context.progress);
    return {kept.folder, kept};
  }
  PendingFolder copy(*place, context.stop);
  std::filesystem::copy(kept.folder, copy.path(), std::filesystem::copy_options::recursive);
  if (!copy.commit(request_.replace))
    throw Error(ErrorKind::usage, "the folder exists", place->string(),
                "choose another place, or let it be replaced");
  return {*place, kept};
}

CachedArtifact QuantizeJob::build(const Store& store, const BuildOptions& options,
                                  const Context& context) const {
  CachedArtifact made{{}, key(context), true, nullptr};
  const auto fill = [&](const Path& folder) {
    made.cached = false;
    WriteOptions write;
    write.memory = memory_plan(options.max_memory, scratch_folder(&store));
    if (write.memory.scratch > 0)
      context.progress->note(human_bytes(write.memory.scratch) +
                             " of activations go to files: memory is short");
    const Path journals = store.root() / "resume";
    RunJournal::sweep(journals, kJournalAge);
    write.journal = journals / made.key.hex();
    if (!options.resume) std::filesystem::remove_all(write.journal);
    this->write(folder, context, write);
  };
  const std::string note = plan_.method_name() + " of " + request_.model.string();
  const CacheObject object = store.build(
      made.key, fill, note, [&](const std::string& text) { context.progress->note(text); });
  made.folder = object.data;
  made.lease = object.lease;
  return made;
}

namespace {

// Makes a repair adapter while a model is quantized.
class Repairs {
 public:
  Repairs(const QuantizeRequest& request, const Model& model, const Context& context)
      : request_(request), model_(model), context_(context) {}

  void add(const ModuleTask& task, const ModuleResult& result) {
    Repaired repaired = repair_module(task, result, request_.repair_rank);
    told_.push_back({{"name", task.info.name},
                     {"error_before", repaired.error_before},
                     {"error_after", repaired.error_after}});
    before_ += repaired.error_before, after_ += repaired.error_after;
    adapter_.modules.push_back(std::move(repaired.module));
  }

  void write() {
    const auto count = static_cast<double>(std::max<size_t>(1, adapter_.modules.size()));
    std::ranges::sort(adapter_.modules, {}, &AdapterModule::module);
    adapter_.settings = {.rank = request_.repair_rank,
                         .alpha = static_cast<double>(request_.repair_rank),
                         .base = request_.place.value().string()};
    const Json record = {{"schema", 1}, {"rank", request_.repair_rank}, {"modules", told_}};
    write_peft(adapter_, request_.repair,
               {.base = adaptable_modules(model_.config(), model_.spec()),
                .replace = request_.replace,
                .companions = {{"qwb-repair.json", json_text(record)}}},
               context_);
    context_.progress->note(fmt::format(
        "repair adapter of rank {}: mean output error of a module {:.4g}, with it {:.4g}: {}",
        request_.repair_rank, before_ / count, after_ / count, request_.repair.string()));
  }

 private:
  const QuantizeRequest& request_;
  const Model& model_;
  Context context_;
  Adapter adapter_;
  Json told_ = Json::array();
  double before_ = 0, after_ = 0;
};

}  // namespace

void QuantizeJob::write(const Path& folder, const Context& context,
                        const WriteOptions& options) const {
  const auto start = std::chrono::steady_clock::now();
  ArtifactWriter writer(folder, loaded_.open, planned_layouts(plan_), kShardBytes, context,
                        options.replace);
  WriterSink sink(writer, plan_);
  std::unique_ptr<RunJournal> journal;
  if (calibration_ && !options.journal.empty())
    journal = RunJournal::open(options.journal, plan_, sink, context);
  if (journal) journal->replay();
  memory_phase_ended();  // the tokenizer and the calibration text are gone, the work is to come
  ModuleSink& first = journal ? static_cast<ModuleSink&>(*journal) : sink;
  RunOptions run{options.memory.kept_scratch, options.memory.stream_scratch, journal.get()};
  Repairs repairs(request_, model(), context);
  if (request_.repair_rank > 0)
    run.made = [&](const ModuleTask& task, const ModuleResult& result) {
      repairs.add(task, result);
    };
  quantize_model(model(), plan_, calibration(), first, context, run);
  Provenance made = provenance(context);
  made.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  made.peak_memory = peak_resident_bytes();
  if (!writer.finish(std::move(made))) {
    throw Error(ErrorKind::usage, "the folder exists and is not empty", folder.string(),
                "choose another place, or let it be replaced");
  }
  if (journal) journal->remove();
  if (request_.repair_rank > 0) repairs.write();
}

CachedArtifact quantize(QuantizeRequest request, const Store& store, const BuildOptions& options,
                        const Context& context) {
  return QuantizeJob(std::move(request), context).build(store, options, context);
}

}  // namespace qwb
