#include "lib/tokenizer/tokenizer_file.h"

#include <algorithm>
#include <unordered_set>

#include "lib/base/error.h"

namespace qwb::tokenizer {
namespace {

constexpr size_t kMaxDepth = 128;

[[noreturn]] void damaged(const std::string& what, const std::string& where) {
  throw Error(ErrorKind::failed, what, where, "the file is damaged or not a tokenizer.json");
}

// Builds a Json value event by event, except below model.vocab and model.merges.
class Handler : public nlohmann::json_sax<Json> {
 public:
  Handler(TokenizerFile& file, const std::string& where) : file_(file), where_(where) {}

  bool null() override { return scalar(nullptr); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_integer(number_integer_t value) override { return integer(value, value); }
  bool number_unsigned(number_unsigned_t value) override {
    return integer(value > INT64_MAX ? INT64_MAX : static_cast<int64_t>(value), value);
  }
  bool number_float(number_float_t value, const string_t&) override {
    if (inside_ == Inside::vocab && depth() == 4 && state_ == 1) return score(value);
    return scalar(value);
  }
  bool string(string_t& value) override {
    if (inside_ == Inside::none) return scalar(std::move(value));
    text(std::move(value));
    return true;
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& value) override;
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception& error) override {
    damaged(json_problem({}, 0, error.what()), where_);
  }

 private:
  enum class Inside { none, vocab, merges };

  size_t depth() const { return open_.size(); }
  bool open(Json&& container);
  bool close();
  bool scalar(Json&& value);
  bool integer(int64_t value, Json&& exact);
  bool score(double value);
  void text(std::string&& value);
  void add_id(int64_t id);
  Json& place(Json&& value);

  TokenizerFile& file_;
  const std::string& where_;
  std::vector<Json*> open_;  // containers from the root down; null below vocab and merges
  std::vector<std::string> keys_;
  Inside inside_ = Inside::none;
  int state_ = 0;  // items seen of the current pair
  std::string first_;
};

// The open containers are: root, model, vocab (or merges), and for lists of pairs the pair.
bool Handler::key(string_t& value) {
  if (inside_ == Inside::vocab) {
    first_ = std::move(value);
    return true;
  }
  if (open_.back()->contains(value)) damaged("JSON key '" + value + "' appears twice", where_);
  keys_.back() = std::move(value);
  return true;
}

Json& Handler::place(Json&& value) {
  if (open_.empty()) return file_.root = std::move(value);
  Json& parent = *open_.back();
  if (parent.is_array()) {
    parent.push_back(std::move(value));
    return parent.back();
  }
  return parent[keys_.back()] = std::move(value);
}

bool Handler::open(Json&& container) {
  if (depth() >= kMaxDepth) damaged("JSON is nested too deeply", where_);
  if (inside_ != Inside::none) {
    if (depth() != 3 || !container.is_array() || file_.root["model"][keys_[1]].is_object()) {
      damaged("'" + keys_[1] + "' holds something that is neither a token nor a pair", where_);
    }
    state_ = 0;
    open_.push_back(nullptr);
    keys_.emplace_back();
    return true;
  }
  const bool in_model = depth() == 2 && keys_[0] == "model" && open_.back()->is_object();
  if (in_model && (keys_[1] == "vocab" || keys_[1] == "merges")) {
    inside_ = keys_[1] == "vocab" ? Inside::vocab : Inside::merges;
    if (inside_ == Inside::merges && !container.is_array())
      damaged("'merges' must be a list", where_);
    file_.scored = inside_ == Inside::vocab ? container.is_array() : file_.scored;
  }
  Json& placed = place(std::move(container));
  open_.push_back(&placed);
  keys_.emplace_back();
  return true;
}

bool Handler::close() {
  if (inside_ != Inside::none && depth() == 4 && state_ != 2)
    damaged("'" + keys_[1] + "' holds an incomplete pair", where_);
  open_.pop_back();
  keys_.pop_back();
  if (inside_ != Inside::none && depth() == 2) inside_ = Inside::none;
  return true;
}

bool Handler::scalar(Json&& value) {
  if (inside_ != Inside::none)
    damaged("'" + keys_[1] + "' holds a " + value.type_name() + " where it may not", where_);
  place(std::move(value));
  return true;
}

bool Handler::integer(int64_t value, Json&& exact) {
  if (inside_ == Inside::vocab && !file_.scored && depth() == 3) {
    add_id(value);
    return true;
  }
  if (inside_ == Inside::vocab && depth() == 4 && state_ == 1)
    return score(static_cast<double>(value));
  return scalar(std::move(exact));
}

bool Handler::score(double value) {
  if (!file_.scored) damaged("'vocab' holds a score in a place of an id", where_);
  add_id(static_cast<int64_t>(file_.vocab.size()));
  file_.scores.push_back(value);
  state_ = 2;
  return true;
}

void Handler::add_id(int64_t id) {
  if (id < 0 || id > kMaxId)
    damaged("token '" + first_ + "' has the id " + std::to_string(id), where_);
  file_.vocab.emplace_back(std::move(first_), static_cast<int32_t>(id));
  first_.clear();
}

void Handler::text(std::string&& value) {
  const bool pair = depth() == 4;
  if (inside_ == Inside::vocab) {
    if (!pair || state_ != 0) damaged("'vocab' holds a string where a number belongs", where_);
    first_ = std::move(value);
    state_ = 1;
    return;
  }
  if (pair) {
    if (state_ > 1) damaged("'merges' holds more than a pair", where_);
    if (state_ == 0) {
      first_ = std::move(value);
    } else {
      file_.merges.emplace_back(std::move(first_), std::move(value));
    }
    ++state_;
    return;
  }
  if (value.starts_with("#version")) return;
  const size_t space = value.find(' ');
  if (space == std::string::npos || value.find(' ', space + 1) != std::string::npos) {
    damaged("merge '" + value + "' is not two tokens with one space between", where_);
  }
  file_.merges.emplace_back(value.substr(0, space), value.substr(space + 1));
}

void check_unique(const TokenizerFile& file, const std::string& where) {
  std::unordered_set<std::string_view> tokens;
  std::vector<bool> taken;
  tokens.reserve(file.vocab.size());
  for (const auto& [token, id] : file.vocab) {
    if (!file.scored && !tokens.insert(token).second)
      damaged("token '" + token + "' appears twice in 'vocab'", where);
    if (static_cast<size_t>(id) >= taken.size()) taken.resize(static_cast<size_t>(id) + 1);
    if (taken[id]) damaged("two tokens have the id " + std::to_string(id), where);
    taken[id] = true;
  }
}

}  // namespace

TokenizerFile parse_tokenizer_file(std::string_view text, const std::string& where) {
  TokenizerFile file;
  Handler handler(file, where);
  try {
    if (!Json::sax_parse(text, &handler)) damaged("not valid JSON", where);
  } catch (const nlohmann::json::exception& error) {
    damaged(json_problem(text, 0, error.what()), where);
  }
  if (!file.root.is_object()) damaged("the top level must be an object", where);
  check_unique(file, where);
  return file;
}

}  // namespace qwb::tokenizer
