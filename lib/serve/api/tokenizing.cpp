// POST /tokenize, /detokenize and /apply-template, with the names that llama-server gave them.
#include "lib/serve/api/answer_json.h"
#include "lib/serve/api/api_error.h"
#include "lib/serve/api/fields.h"
#include "lib/serve/api/request_json.h"
#include "lib/serve/api/routes.h"
#include "lib/tokenizer/token_bytes.h"

namespace qwb::serve {
namespace {

// A piece that is no text is a list of bytes.
Json piece_json(const Tokenizer& tokenizer, int32_t token) {
  const std::string bytes = token_bytes(tokenizer, token);
  try {
    const Json text = bytes;
    static_cast<void>(text.dump());  // throws for invalid UTF-8
    return {{"id", token}, {"piece", text}};
  } catch (const Json::type_error&) {
    Json list = Json::array();
    for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
    return {{"id", token}, {"piece", list}};
  }
}

void send_json(Exchange& exchange, const Json& json) {
  exchange.send({.body = json_line(json) + "\n"});
}

}  // namespace

void handle_tokenize(Service& service, const std::shared_ptr<Exchange>& exchange) {
  const Json body = parse_request(exchange->request().body);
  const Fields fields(body);
  const Tokenizer& tokenizer = *service.model(requested_model(body)).loaded.tokenizer;
  const auto content = fields.text("content");
  if (!content) fields.refuse("content", "is missing");
  if (!fields.boolean("parse_special").value_or(true))
    fields.refuse("parse_special", "special tokens in a text are always read as such");
  Json tokens = Json::array();
  const bool pieces = fields.boolean("with_pieces").value_or(false);
  for (const int32_t token :
       tokenizer.encode(*content, fields.boolean("add_special").value_or(false)))
    tokens.push_back(pieces ? piece_json(tokenizer, token) : Json(token));
  send_json(*exchange, {{"tokens", tokens}});
}

void handle_detokenize(Service& service, const std::shared_ptr<Exchange>& exchange) {
  const Json body = parse_request(exchange->request().body);
  const Fields fields(body);
  const Tokenizer& tokenizer = *service.model(requested_model(body)).loaded.tokenizer;
  const Json* tokens = fields.find("tokens");
  if (tokens == nullptr || !tokens->is_array()) fields.refuse("tokens", "must be a list of ids");
  std::vector<int32_t> ids;
  for (const Json& token : *tokens) {
    if (!token.is_number_unsigned() || token.get<uint64_t>() > INT32_MAX ||
        token.get<int64_t>() >= tokenizer.vocab_size())
      fields.refuse("tokens", "holds what is no token id");
    ids.push_back(token.get<int32_t>());
  }
  send_json(*exchange, {{"content", tokenizer.decode(ids, false)}});
}

void handle_template(Service& service, const std::shared_ptr<Exchange>& exchange) {
  const Json body = parse_request(exchange->request().body);
  const ServedModel& model = service.model(requested_model(body));
  send_json(*exchange, {{"prompt", model.rendered(read_template_request(body))}});
}

}  // namespace qwb::serve
