// From texts to windows: cutting, drawing, mixing.
#include <algorithm>
#include <iterator>
#include <numeric>
#include <set>

#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "lib/quantize/calibrate/calibration.h"

namespace qwb {
namespace {

using Windows = std::vector<std::vector<int32_t>>;

Windows running_windows(const std::vector<std::string>& texts, int64_t length,
                        const Tokenizer& tokenizer) {
  std::string joined;
  for (const std::string& text : texts) joined += (joined.empty() ? "" : "\n\n") + text;
  const std::vector<int32_t> ids = tokenizer.encode(joined, false);
  Windows windows;
  for (auto at = ids.begin(); ids.end() - at >= length; at += length)
    windows.emplace_back(at, at + length);
  return windows;
}

Windows document_windows(const std::vector<std::string>& texts, int64_t length,
                         const Tokenizer& tokenizer, const Context& context) {
  Windows windows;
  for (const std::string& text : texts) {
    std::vector<int32_t> ids = tokenizer.encode(text, false);
    context.stop.check();
    if (static_cast<int64_t>(ids.size()) < length) continue;
    ids.resize(static_cast<size_t>(length));
    windows.push_back(std::move(ids));
  }
  return windows;
}

// The first `count` windows, or `count` drawn by a partial Fisher-Yates shuffle and put back into
// text order.
void choose_windows(Windows& windows, int64_t count, std::optional<uint64_t> seed) {
  if (static_cast<int64_t>(windows.size()) <= count) return;
  if (seed) {
    std::vector<size_t> order(windows.size());
    std::iota(order.begin(), order.end(), size_t{0});
    Rng rng(*seed);
    for (size_t i = 0; i < static_cast<size_t>(count); ++i)
      std::swap(order[i], order[i + rng.below(order.size() - i)]);
    std::sort(order.begin(), order.begin() + count);
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) windows[i].swap(windows[order[i]]);
  }
  windows.resize(static_cast<size_t>(count));
}

std::string display_name(const std::string& source) {
  return source == "lima" || source == "demo" ? source : Path(source).filename().string();
}

Windows source_windows(const CalibrationRequest& request, const Path& file,
                       const Tokenizer& tokenizer, const RenderChat& chat, const Context& context) {
  const auto [texts, calls_left_out] = calibration_texts(file, chat);
  if (calls_left_out > 0)
    context.progress->note(file.string() + ": the tool calls of " + std::to_string(calls_left_out) +
                           " rows are not in the text: --chat-template writes them");
  Windows windows = request.documents ? document_windows(texts, request.length, tokenizer, context)
                                      : running_windows(texts, request.length, tokenizer);
  if (windows.empty()) {
    throw Error(
        ErrorKind::failed,
        "the calibration set gives not one window of " + std::to_string(request.length) + " tokens",
        file.string(), "use a longer text or a smaller --length");
  }
  return windows;
}

void check_request(const CalibrationRequest& request) {
  if (request.samples < 1 || request.length < 2) {
    throw Error(ErrorKind::usage, "calibration needs at least one sample of at least two tokens");
  }
  std::set<std::string> names;
  for (const CalibrationSource& source : request.sources) {
    if (!names.insert(source.name).second) {
      throw Error(ErrorKind::usage, "the calibration source " + source.name + " is given twice", {},
                  "give it once with a weight: " + source.name + ":2");
    }
  }
  if (request.samples < static_cast<int64_t>(request.sources.size())) {
    throw Error(ErrorKind::usage, std::to_string(request.samples) +
                                      " calibration windows cannot come from " +
                                      std::to_string(request.sources.size()) + " sources");
  }
}

}  // namespace

std::vector<int64_t> apportion(const std::vector<double>& weights,
                               const std::vector<int64_t>& available, int64_t samples) {
  std::vector<int64_t> counts(weights.size(), 0);
  for (;;) {
    int64_t missing = samples;
    double open = 0;  // weight of the sources that can give more
    for (size_t i = 0; i < counts.size(); ++i) {
      missing -= counts[i];
      if (counts[i] < available[i]) open += weights[i];
    }
    if (missing <= 0 || open <= 0) return counts;
    std::vector<std::pair<double, size_t>> remainders;
    int64_t given = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      if (counts[i] == available[i]) continue;
      const double share = static_cast<double>(missing) * weights[i] / open;
      const auto whole = std::min(static_cast<int64_t>(share), available[i] - counts[i]);
      counts[i] += whole;
      given += whole;
      if (counts[i] < available[i]) remainders.emplace_back(static_cast<double>(whole) - share, i);
    }
    // Whole shares first; when nobody's is one any more, the largest remainders.
    std::stable_sort(remainders.begin(), remainders.end());
    const bool saturated = remainders.size() < counts.size() && given > 0;
    for (const auto& [remainder, i] : remainders) {
      if (saturated || given == missing) break;
      ++counts[i];
      ++given;
    }
  }
}

namespace {

Json manifest_of(const CalibrationSet& set, const CalibrationRequest& request,
                 const Tokenizer& tokenizer, bool chat) {
  return {{"name", set.name},
          {"hash", set.hash},
          {"tokens", set.tokens()},
          {"windows", set.windows.size()},
          {"length", set.length},
          {"seed", request.seed ? Json(*request.seed) : Json(nullptr)},
          {"documents", request.documents},
          {"chat_template", chat},
          {"tokenizer", tokenizer.content_hash()}};
}

// What came out other than the weights ask for.
void warn_of_shortage(const std::vector<std::string>& names, const std::vector<double>& weights,
                      const std::vector<int64_t>& counts, int64_t samples, int64_t length,
                      const Context& context) {
  const std::string of_tokens = " windows of " + std::to_string(length) + " tokens";
  const auto wanted = apportion(weights, std::vector(weights.size(), samples), samples);
  for (size_t i = 0; i < names.size(); ++i) {
    if (counts[i] == 0)
      context.progress->note(names[i] + " gives no window: its share is too small");
    if (counts[i] < wanted[i] && names.size() > 1)
      context.progress->note(names[i] + " has only " + std::to_string(counts[i]) + of_tokens +
                             ": all are used");
  }
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  if (total < samples)
    context.progress->note("the calibration set has only " + std::to_string(total) + of_tokens +
                           " (" + std::to_string(samples) + " were asked for)");
}

}  // namespace

CalibrationSet make_calibration_set(const CalibrationRequest& request,
                                    const std::vector<Path>& files, const Tokenizer& tokenizer,
                                    const RenderChat& chat, const Context& context) {
  check_request(request);
  std::vector<Windows> all;
  std::vector<std::string> names;
  std::vector<double> weights;
  std::vector<int64_t> available;
  for (size_t i = 0; i < request.sources.size(); ++i) {
    all.push_back(source_windows(request, files[i], tokenizer, chat, context));
    names.push_back(display_name(request.sources[i].name));
    weights.push_back(request.sources[i].weight);
    available.push_back(static_cast<int64_t>(all[i].size()));
  }
  const std::vector<int64_t> counts = apportion(weights, available, request.samples);
  warn_of_shortage(names, weights, counts, request.samples, request.length, context);
  CalibrationSet set;
  set.length = request.length;
  Json sources = Json::array();
  for (size_t i = 0; i < all.size(); ++i) {
    // Each source has its own stream of random numbers.
    choose_windows(all[i], counts[i],
                   request.seed ? std::optional(*request.seed + i) : std::nullopt);
    std::move(all[i].begin(), all[i].end(), std::back_inserter(set.windows));
    set.name += (i == 0 ? "" : "+") + names[i];
    sources.push_back({{"name", names[i]}, {"weight", weights[i]}, {"windows", counts[i]}});
  }
  set.hash = windows_hash(set.windows);
  set.manifest = manifest_of(set, request, tokenizer, static_cast<bool>(chat));
  if (sources.size() > 1) set.manifest["sources"] = std::move(sources);
  return set;
}

}  // namespace qwb
