// The decoders of tokenizer.json, as streams: tokens go in one by one, text comes out as soon as
// later tokens cannot change it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/json.h"

namespace qwb::tokenizer {

// One step. Tokens may arrive in parts (after Fuse): `last` marks a token's last part.
class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  virtual void push(std::string_view text, bool last) = 0;
  virtual void finish() = 0;

  void connect(DecodeStep* next, std::string* out) { next_ = next, out_ = out; }

 protected:
  void send(std::string_view text, bool last) {
    if (next_ != nullptr) return next_->push(text, last);
    out_->append(text);
  }
  void finish_next() {
    if (next_ != nullptr) next_->finish();
  }

 private:
  DecodeStep* next_ = nullptr;
  std::string* out_ = nullptr;
};

// Makes the steps of one decoding. Thread-safe.
class DecoderPlan {
 public:
  virtual ~DecoderPlan() = default;
  virtual void add_steps(std::vector<std::unique_ptr<DecodeStep>>& steps) const = 0;
};

// From the "decoder" value; null gives a plan that joins tokens by spaces. Throws `unsupported`
// naming a type that is not known.
std::unique_ptr<DecoderPlan> make_decoder(const Json& json, const std::string& where);

}  // namespace qwb::tokenizer
