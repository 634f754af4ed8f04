// A tuning run from its first step, or the one where it stopped, to its folder.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "cache/store.h"
#include "formats/companions.h"
#include "lib/adapt/peft_writer.h"
#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/jobs/tuning.h"

namespace qwb {
namespace {

using RunClock = std::chrono::steady_clock;

// What a stop must not leave half done.
Context unstopped(const Context& context) {
  Context made;
  made.threads = context.threads;
  return made;
}

// What of a request is another than before, with both values; empty: nothing.
std::string difference(const Json& before, const Json& now) {
  for (const auto& [key, value] : now.items()) {
    const Json old = json_has(before, key) ? before[key] : Json();
    if (json_canonical(old) == json_canonical(value)) continue;
    if (value.is_object()) return "other " + key + ": " + difference(old, value);
    return "another " + key + " (" + old.dump() + ", now " + value.dump() + ")";
  }
  return {};
}

}  // namespace

// What the bits of the run depend on.
Json Tuning::identity(const Context& context) const {
  return {{"base", open_.content_hash(default_memo_folder(), context)},
          {"data", data_.train.hash + data_.held.hash},
          {"template", template_.hash},
          {"settings", request_.settings.json()},
          {"steps", plan_.steps},
          {"micro_tokens", machine_.micro_tokens},
          {"arithmetic", model_->executor().identity()}};
}

int64_t Tuning::every(double epochs) const {
  const double steps =
      epochs * static_cast<double>(plan_.documents) / static_cast<double>(request_.settings.batch);
  return std::max<int64_t>(1, std::llround(steps));
}

void Tuning::go_on(TuneState& state, const Context& context) {
  if (!request_.resume) state.clear();
  const auto saved = state.load();
  if (!saved) {
    state.clear();
    return;
  }
  const std::string where = (state.folder() / "state").string();
  const std::string other = difference(saved->header.value("request", Json::object()), identity_);
  if (!other.empty()) {
    throw Error(ErrorKind::usage, "the run that stopped here had " + other, where,
                "repeat its command, or begin anew with --no-resume");
  }
  trainer_->restore(saved->values, json_int(saved->header, "step", where));
  best_ = saved->header.value("best", Json());
  first_ = saved->header.value("first", Json());
  last_ = saved->header.value("last", Json());
  first_sums_ = saved->header.value("first_sums", std::vector<double>());
  worse_ = json_int(saved->header, "worse", where, 0);
  seconds_ = json_number(saved->header, "seconds", where, 0);
  state.cut_log(trainer_->done_steps());
  context.progress->note("goes on behind step " + std::to_string(trainer_->done_steps()));
}

void Tuning::save(const TuneState& state) const {
  state.save({{{"request", identity_},
               {"step", trainer_->done_steps()},
               {"best", best_},
               {"first", first_},
               {"last", last_},
               {"first_sums", first_sums_},
               {"worse", worse_},
               {"seconds", seconds_}},
              trainer_->state()});
}

Adapter Tuning::adapter() const {
  const TuneSettings& s = request_.settings;
  Adapter made;
  made.settings = {.rank = s.rank,
                   .alpha = s.alpha,
                   .rslora = s.rslora,
                   .dropout = s.dropout,
                   .base = request_.base,
                   .revision = {}};
  made.modules = trainer_->adapter_modules();
  return made;
}

// state: also its log, and the best adapter where it is another; null: neither.
void Tuning::write(const Path& folder, const Json& summary, const TuneState* state, bool replace,
                   const Context& context) const {
  PeftOptions options;
  options.base = adaptable_modules(model_->config(), model_->spec());
  options.replace = replace;
  options.companions = companion_texts(open_);
  if (template_.is_ours && data_.train.has_turns)
    options.companions["chat_template.jinja"] = template_.text;
  options.companions["qwb-adapter.json"] = json_text(summary);
  if (state != nullptr) {
    options.companions["log.jsonl"] = log_lines(state->log());
    options.companions["log.csv"] = log_csv(state->log());
    if (json_has(best_, "step") && best_["step"] != trainer_->done_steps() && best_["step"] != 0) {
      for (const char* name : {"adapter_config.json", "adapter_model.safetensors"})
        options.companions[std::string("best/") + name] =
            read_text(state->folder() / "best" / name);
    }
  }
  write_peft(adapter(), folder, options, context);
}

void Tuning::measure(TuneState& state, const Context& context,
                     const std::function<void(const Json&)>& record) {
  if (data_.held.documents.empty()) return;
  const HeldOutLoss measured = trainer_->evaluate(context.stop);
  const int64_t step = trainer_->done_steps();
  last_ = {{"step", step},
           {"loss", measured.loss},
           {"error", measured.error},
           {"tokens", measured.tokens}};
  if (first_.is_null()) {
    first_ = last_;
    first_sums_ = measured.sums;
  } else {
    const LossChange change = loss_change(first_sums_, measured);
    last_["change"] = change.change;
    last_["change_error"] = change.error;
  }
  const bool better = best_.is_null() || measured.loss < best_["loss"].get<double>();
  worse_ = better ? 0 : worse_ + 1;
  if (better) {
    best_ = last_;
    if (step > 0)
      write(state.folder() / "best", {{"step", step}}, nullptr, true, unstopped(context));
  }
  const Json line = {{"step", step}, {"epoch", trainer_->epoch()}, {"held_out", last_}};
  state.add_log(line);
  record(line);
}

void Tuning::step(TuneState& state, const Context& context,
                  const std::function<void(const Json&)>& record) {
  const auto begin = RunClock::now();
  const StepRecord made = trainer_->step(context.stop);
  const double seconds = std::chrono::duration<double>(RunClock::now() - begin).count();
  seconds_ += seconds;
  const Json line = {{"step", made.step},
                     {"epoch", made.epoch},
                     {"loss", made.loss},
                     {"supervised_tokens", made.supervised},
                     {"tokens", made.tokens},
                     {"lr", made.rate},
                     {"grad_norm", made.gradient_norm},
                     {"clipped", made.clipped},
                     {"s_step", seconds},
                     {"tokens_per_s", static_cast<double>(made.tokens) / seconds},
                     {"peak_mb", peak_megabytes()}};
  state.add_log(line);
  record(line);
  context.progress->advance(1, "loss " + human_number(made.loss));
}

Json Tuning::summary(const TuneState& state, bool whole) const {
  std::vector<double> speeds;
  int64_t tokens = 0, clipped = 0;
  double peak = 0;
  for (const Json& line : state.log()) {
    if (!line.contains("s_step")) continue;
    speeds.push_back(line["s_step"].get<double>());
    tokens += line["tokens"].get<int64_t>();
    clipped += line["clipped"].get<bool>() ? 1 : 0;
    peak = std::max(peak, line["peak_mb"].get<double>());
  }
  const double all = std::max(seconds_, 1e-9);
  std::sort(speeds.begin(), speeds.end());
  return {
      {"format", "qwb-adapter"},
      {"version", 1},
      {"complete", whole},
      {"base", {{"name", request_.base}, {"format", open_.format}, {"hash", identity_["base"]}}},
      {"data",
       {{"name", request_.data},
        {"hash", identity_["data"]},
        {"documents", plan_.documents},
        {"tokens", plan_.tokens},
        {"supervised_tokens", plan_.supervised},
        {"held_out", plan_.held}}},
      {"template", {{"origin", template_.origin}, {"hash", template_.hash}}},
      {"settings", request_.settings.json()},
      {"arithmetic", identity_["arithmetic"]},
      {"modules", plan_.modules},
      {"values", plan_.values},
      {"result",
       {{"steps", trainer_->done_steps()},
        {"of", plan_.steps},
        {"seconds", seconds_},
        {"s_step_median", speeds.empty() ? Json(nullptr) : Json(speeds[speeds.size() / 2])},
        {"tokens_per_s", static_cast<double>(tokens) / all},
        {"clipped_steps", clipped},
        {"peak_mb", peak},
        {"held_out", {{"before", first_}, {"after", last_}, {"best", best_}}}}}};
}

void Tuning::leave(const TuneState& state, bool replace, const Context& context) const {
  write(request_.out, summary(state, false), &state, replace, unstopped(context));
  throw Error(ErrorKind::interrupted,
              "stopped behind step " + std::to_string(trainer_->done_steps()) + " of " +
                  std::to_string(plan_.steps) + ": the adapter so far is there",
              request_.out.string(), "the same command goes on");
}

Json Tuning::run(const Context& context, const std::function<void(const Json&)>& record) {
  identity_ = identity(context);
  const Path folder = request_.out.string() + ".tune";
  const bool goes_on = std::filesystem::exists(folder / "state");
  TuneState state(folder);
  go_on(state, context);
  const int64_t measures = every(request_.eval_every);
  const int64_t saves = request_.save_every > 0
                            ? request_.save_every
                            : std::min(measures, std::max<int64_t>(1, plan_.steps / 20));
  const bool replace = request_.replace || goes_on;
  const auto done = [&] { return trainer_->done_steps(); };
  const auto ended = [&] {
    return done() == plan_.steps || (request_.patience > 0 && worse_ >= request_.patience);
  };
  // Ctrl-C may have come between a step and its measurement.
  const auto measure_if_due = [&] {
    const bool due = done() == plan_.steps || done() % measures == 0;
    if (due && !(json_has(last_, "step") && last_["step"] == done()))
      measure(state, context, record);
  };
  context.progress->begin("tuning", plan_.steps);
  context.progress->advance(done(), "");
  try {
    measure_if_due();
    if (done() == 0) save(state);
    while (!ended()) {
      step(state, context, record);
      measure_if_due();
      if (ended() || done() % saves == 0) save(state);
    }
  } catch (const Error& error) {
    context.progress->end();
    if (error.kind() != ErrorKind::interrupted || done() == 0) throw;
    save(state);
    leave(state, replace, context);
  }
  context.progress->end();
  const Json whole = summary(state, true);
  write(request_.out, whole, &state, replace, context);
  if (!request_.keep_state) {
    state.clear();
    remove_tree(folder);
  }
  return whole;
}

}  // namespace qwb
