#include "lib/evaluate/protocols.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/names.h"

namespace qwb {
namespace {

constexpr int64_t kShortest = 4;

void check_context(int64_t context, const ModelConfig& config) {
  if (context >= kShortest && context <= config.max_positions) return;
  throw Error(ErrorKind::usage, fmt::format("a context of {} tokens: this model takes {} to {}",
                                            context, kShortest, config.max_positions));
}

// The context asked for, or the default as far as the model takes it.
int64_t chosen_context(const ProtocolOptions& options, const ModelConfig& config, int64_t normal) {
  const int64_t context =
      options.context > 0 ? options.context : std::min(normal, config.max_positions);
  check_context(context, config);
  return context;
}

void refuse_stride(const ProtocolOptions& options) {
  if (options.stride > 0)
    throw Error(ErrorKind::usage, "protocol " + options.protocol + " has no stride", {},
                "--stride belongs to hf-stride");
}

void too_short(const ProtocolOptions& options, int64_t tokens, int64_t context, int64_t needed) {
  throw Error(ErrorKind::usage,
              fmt::format("the text has {} tokens, but protocol {} at context {} needs {}", tokens,
                          options.protocol, context, needed),
              {}, "take a longer text or a smaller --context");
}

int64_t limited(int64_t count, int64_t limit) {
  return limit > 0 ? std::min(count, limit) : count;
}

// Every window a unit of its own.
void add_unit(TokenPlan& plan, TokenWindow window) {
  window.unit = static_cast<int64_t>(plan.unit_weights.size());
  plan.unit_weights.push_back(window.weight);
  plan.windows.push_back(window);
}

// Disjoint windows from the start, the tail dropped.
TokenPlan disjoint(const ProtocolOptions& options, const Tokenizer& tokenizer,
                   std::string_view text, int64_t context, int64_t first, int64_t least) {
  refuse_stride(options);
  TokenPlan plan;
  plan.context = context;
  plan.ids = tokenizer.encode(text, true);
  const auto tokens = static_cast<int64_t>(plan.ids.size());
  if (tokens < least * context) too_short(options, tokens, context, least * context);
  for (int64_t i = 0; i < limited(tokens / context, options.max_windows); ++i) {
    TokenWindow window{.begin = i * context, .size = context, .first = first};
    window.weight = static_cast<double>(window.scored());
    add_unit(plan, window);
  }
  return plan;
}

TokenPlan plan_windows(const ProtocolOptions& o, const ModelConfig& config,
                       const Tokenizer& tokenizer, const EvaluationText& text) {
  return disjoint(o, tokenizer, text.whole, chosen_context(o, config, 2048), 1, 1);
}

TokenPlan plan_gptq(const ProtocolOptions& o, const ModelConfig& config, const Tokenizer& tokenizer,
                    const EvaluationText& text) {
  if (o.context == 0 && config.max_positions < 2048) {
    throw Error(ErrorKind::usage,
                fmt::format("protocol gptq has windows of 2048 tokens, and this model takes {}",
                            config.max_positions),
                {}, "give a --context to depart from it, or take --protocol windows");
  }
  return disjoint(o, tokenizer, text.whole, chosen_context(o, config, 2048), 1, 1);
}

// Logits of positions context/2 .. context - 2 predict the tokens after them.
TokenPlan plan_llama_cpp(const ProtocolOptions& o, const ModelConfig& config,
                         const Tokenizer& tokenizer, const EvaluationText& text) {
  const int64_t context = chosen_context(o, config, 512);
  TokenPlan plan = disjoint(o, tokenizer, text.raw, context, context / 2 + 1, 2);
  const std::vector<int32_t> prefix = tokenizer.special_prefix();
  if (!prefix.empty()) {
    for (TokenWindow& window : plan.windows) window.first_token = prefix.front();
  }
  return plan;
}

TokenPlan plan_hf_stride(const ProtocolOptions& o, const ModelConfig& config,
                         const Tokenizer& tokenizer, const EvaluationText& text) {
  TokenPlan plan;
  plan.context = chosen_context(o, config, 1024);
  plan.stride = o.stride > 0 ? o.stride : plan.context / 2;
  if (plan.stride > plan.context)
    throw Error(ErrorKind::usage,
                fmt::format("a stride of {} leaves tokens between windows of {} unscored",
                            plan.stride, plan.context));
  plan.ids = tokenizer.encode(text.whole, true);
  const auto tokens = static_cast<int64_t>(plan.ids.size());
  if (tokens < 3) too_short(o, tokens, plan.context, 3);
  int64_t previous_end = 0;
  for (int64_t begin = 0; begin < tokens; begin += plan.stride) {
    const int64_t end = std::min(begin + plan.context, tokens), fresh = end - previous_end;
    // The first token of a window has nothing before it. The page takes the mean over the scored
    // tokens, and weighs it by the number of new ones minus one.
    const int64_t scored = std::min(fresh, end - begin - 1);
    if (scored > 0 && fresh > 1) {
      TokenWindow window{.begin = begin, .size = end - begin, .first = end - begin - scored};
      window.weight = static_cast<double>(fresh - 1);
      window.scale = window.weight / static_cast<double>(scored);
      add_unit(plan, window);
    }
    previous_end = end;
    if (end == tokens || static_cast<int64_t>(plan.windows.size()) == o.max_windows) break;
  }
  return plan;
}

// The rolling windows of one document, lm_eval/utils.py: get_rolling_token_windows with context_len
// 1, then make_disjoint_window. ids[begin] is the prefix token, the document's `tokens` tokens
// follow. The first window predicts its `context` tokens from the prefix on; later ones have one
// token of context; the last one ends with the document and has as much context as fits.
void add_rolling(TokenPlan& plan, int64_t begin, int64_t tokens, int64_t unit) {
  for (int64_t done = 0; done < tokens;) {
    const int64_t fresh = std::min(plan.context, tokens - done), end = done + fresh;
    const int64_t size = done == 0 ? fresh + 1 : plan.context + 1;
    plan.windows.push_back(
        {.begin = begin + end + 1 - size, .size = size, .first = size - fresh, .unit = unit});
    done = end;
  }
}

int32_t prefix_token(const Tokenizer& tokenizer) {
  if (const auto bos = tokenizer.bos_id()) return *bos;
  if (const auto eos = tokenizer.eos_id()) return *eos;
  throw Error(ErrorKind::unsupported, "the tokenizer has neither a BOS nor an EOS token", {},
              "protocol lm-eval begins every document with one");
}

TokenPlan plan_lm_eval(const ProtocolOptions& o, const ModelConfig& config,
                       const Tokenizer& tokenizer, const EvaluationText& text) {
  refuse_stride(o);
  TokenPlan plan;
  plan.context = chosen_context(o, config, config.max_positions);
  plan.documents = limited(static_cast<int64_t>(text.documents.size()), o.max_windows);
  const int32_t prefix = prefix_token(tokenizer);
  const std::string prefix_text = tokenizer.token_of(prefix);
  for (int64_t d = 0; d < plan.documents; ++d) {
    const EvaluationDocument& document = text.documents[d];
    const auto begin = static_cast<int64_t>(plan.ids.size());
    // No second BOS for a text that spells one.
    const std::vector<int32_t> ids =
        tokenizer.encode(document.text, !document.text.starts_with(prefix_text));
    plan.ids.push_back(prefix);
    plan.ids.insert(plan.ids.end(), ids.begin(), ids.end());
    plan.words += document.words;
    plan.bytes += document.bytes;
    plan.unit_weights.push_back(static_cast<double>(document.words));
    add_rolling(plan, begin, static_cast<int64_t>(ids.size()), d);
  }
  if (plan.windows.empty())
    throw Error(ErrorKind::failed, "the tokenizer makes no tokens of this text", text.name);
  if (plan.documents > 1) return plan;
  // A single document's windows are the units; its words are shared out by tokens.
  const double words_per_token =
      static_cast<double>(plan.words) / static_cast<double>(plan.scored());
  plan.unit_weights.clear();
  for (TokenWindow& window : plan.windows) {
    window.unit = static_cast<int64_t>(plan.unit_weights.size());
    plan.unit_weights.push_back(words_per_token * static_cast<double>(window.scored()));
  }
  return plan;
}

void check_vocabulary(const ModelConfig& config, const TokenPlan& plan) {
  const int32_t largest = *std::max_element(plan.ids.begin(), plan.ids.end());
  if (largest < config.vocab) return;
  throw Error(
      ErrorKind::usage,
      fmt::format("the tokenizer makes token {} but the model has only {}", largest, config.vocab),
      {}, "the tokenizer files do not belong to this model");
}

}  // namespace

int64_t TokenPlan::scored() const {
  int64_t total = 0;
  for (const TokenWindow& window : windows) total += window.scored();
  return total;
}

int64_t TokenPlan::read() const {
  int64_t total = 0;
  for (const TokenWindow& window : windows) total += window.size - 1;
  return total;
}

std::string TokenPlan::hash() const {
  Hasher hasher;
  hasher.field(token_hash);
  for (const TokenWindow& w : windows) {
    hasher.field(fmt::format("{} {} {} {} {:a} {:a} {}", w.begin, w.size, w.first,
                             w.first_token.value_or(-1), w.scale, w.weight, w.unit));
  }
  for (const double weight : unit_weights) hasher.field(fmt::format("{:a}", weight));
  return hasher.hex();
}

const std::vector<Protocol>& protocols() {
  static const std::vector<Protocol> all = {
      {"windows",
       "disjoint windows, all but the first token of each scored; 2048 tokens or the model's limit",
       "perplexity", plan_windows},
      {"gptq", "the same with 2048 tokens and nothing else, as the papers on GPTQ print it",
       "perplexity", plan_gptq},
      {"llama.cpp", "as llama-perplexity: 512 tokens, BOS at every window, the second half scored",
       "perplexity", plan_llama_cpp},
      {"hf-stride",
       "as transformers' page on perplexity: overlapping windows of 1024, --stride apart",
       "perplexity", plan_hf_stride},
      {"lm-eval", "as lm-eval's wikitext: whole documents in rolling windows; perplexity of a word",
       "word perplexity", plan_lm_eval},
  };
  return all;
}

const Protocol& find_protocol(std::string_view name) {
  std::string names;
  for (const Protocol& protocol : protocols()) {
    if (same_name(protocol.name, name)) return protocol;
    names += (names.empty() ? "" : ", ") + protocol.name;
  }
  throw Error(ErrorKind::usage, "no perplexity protocol is called \"" + std::string(name) + "\"",
              {}, "there are: " + names);
}

TokenPlan make_plan(const ProtocolOptions& options, const ModelConfig& config,
                    const Tokenizer& tokenizer, const EvaluationText& text) {
  const Protocol& protocol = find_protocol(options.protocol);
  TokenPlan plan = protocol.plan(options, config, tokenizer, text);
  plan.protocol = protocol.name;
  plan.text_hash = text.hash;
  plan.token_hash = hash_hex(std::as_bytes(std::span(plan.ids)));
  check_vocabulary(config, plan);
  return plan;
}

}  // namespace qwb
