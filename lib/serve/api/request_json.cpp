#include "lib/serve/api/request_json.h"

#include <string>
#include <vector>

#include "lib/serve/api/api_error.h"

namespace qwb::serve {
namespace {

// Walks over a body without making anything of it.
class RequestCheck : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(number_integer_t) override { return value(); }
  bool number_unsigned(number_unsigned_t) override { return value(); }
  bool number_float(number_float_t, const string_t&) override { return value(); }
  bool string(string_t&) override { return value(); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(); }
  bool key(string_t&) override {
    if (++keys_.back() > kMostKeys) problem_ = "an object has more than 1000 keys";
    return problem_.empty();
  }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t byte, const std::string&,
                   const nlohmann::detail::exception& error) override {
    problem_ = json_problem({}, byte, error.what());
    return false;
  }
  const std::string& problem() const { return problem_; }

 private:
  bool value() {
    if (++values_ > kMostValues) problem_ = "there are more than a million values";
    return problem_.empty();
  }
  bool open() {
    keys_.push_back(0);
    if (keys_.size() > kDeepestRequest) problem_ = "it is nested more than 64 levels deep";
    return value();
  }
  bool close() {
    keys_.pop_back();
    return true;
  }
  std::vector<int> keys_;  // of the objects and arrays that are open
  int values_ = 0;
  std::string problem_;
};

}  // namespace

Json parse_request(std::string_view body) {
  RequestCheck check;
  if (!Json::sax_parse(body, &check)) throw ApiError(400, "the body: " + check.problem());
  Json request;
  try {
    request = parse_json(body, "the body");
  } catch (const Error& error) {
    throw ApiError(400, error.what());
  }
  if (!request.is_object()) throw ApiError(400, "the body is no JSON object");
  return request;
}

}  // namespace qwb::serve
