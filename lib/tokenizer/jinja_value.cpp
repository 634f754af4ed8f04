#include "lib/tokenizer/jinja_value.h"

#include <algorithm>
#include <cmath>

#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {

Value Value::list(std::vector<Value> items, bool tuple) {
  auto body = std::make_shared<ListBody>();
  for (const Value& item : items) {
    body->depth = std::max(body->depth, item.depth() + 1);
    body->weight = std::min(body->weight + item.weight(), kMaxWeight + 1);
  }
  if (body->depth > kMaxDepth || body->weight > kMaxWeight)
    throw Failure("a list is nested too deeply or too large");
  body->items = std::move(items);
  body->tuple = tuple;
  return List(std::move(body));
}

Value Value::dict(std::vector<std::pair<Value, Value>> items) {
  auto body = std::make_shared<DictBody>();
  for (const auto& [key, value] : items) {
    body->depth = std::max({body->depth, value.depth() + 1, key.depth() + 1});
    body->weight = std::min(body->weight + key.weight() + value.weight(), kMaxWeight + 1);
  }
  if (body->depth > kMaxDepth || body->weight > kMaxWeight)
    throw Failure("a dict is nested too deeply or too large");
  body->items = std::move(items);
  return Dict(std::move(body));
}

Value Value::from_json(const Json& json, int depth) {
  if (depth > kMaxDepth) throw Failure("the messages are nested too deeply");
  switch (json.type()) {
    case Json::value_t::null:
      return nullptr;
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<int64_t>();
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > INT64_MAX) throw Failure("an integer in the messages has more than 63 bits");
      return json.get<int64_t>();
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return tokenizer::sanitize(json.get_ref<const std::string&>());
    case Json::value_t::array: {
      std::vector<Value> items;
      for (const Json& item : json) items.push_back(from_json(item, depth + 1));
      return list(std::move(items));
    }
    case Json::value_t::object: {
      std::vector<std::pair<Value, Value>> items;
      for (const auto& [key, value] : json.items()) items.emplace_back(key, from_json(value, depth + 1));
      return dict(std::move(items));
    }
    default:
      throw Failure("the messages hold something that is not JSON");
  }
}

const int64_t* Value::integer(int64_t& storage) const {
  if (const bool* flag = as<bool>()) return &(storage = *flag ? 1 : 0);
  if (const int64_t* number = as<int64_t>()) return &(storage = *number);
  return nullptr;
}

bool Value::number(double& out) const {
  int64_t whole = 0;
  if (const double* real = as<double>()) {
    out = *real;
  } else if (integer(whole) != nullptr) {
    out = static_cast<double>(whole);
  } else {
    return false;
  }
  return true;
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  double number_value = 0;
  if (number(number_value)) return number_value != 0;
  if (const auto* string = text()) return !string->empty();
  if (const auto* list_value = items()) return !list_value->items.empty();
  if (const auto* dict_value = dict_body()) return !dict_value->items.empty();
  return true;
}

int Value::depth() const {
  if (const auto* list_value = items()) return list_value->depth;
  if (const auto* dict_value = dict_body()) return dict_value->depth;
  if (const auto* method = as<Method>()) return method->object->depth() + 1;
  // A loop's items are as deep as their list, whose iteration is under way.
  if (const auto* loop = as<std::shared_ptr<LoopBody>>()) return (*loop)->items->depth + 1;
  return 0;
}

int64_t Value::weight() const {
  if (const auto* string = text()) return static_cast<int64_t>(string->size()) + 1;
  if (const auto* list_value = items()) return list_value->weight;
  if (const auto* dict_value = dict_body()) return dict_value->weight;
  if (const auto* method = as<Method>()) return method->object->weight() + 1;
  return 1;
}

const Value* Value::find(const Value& key) const {
  const auto* body = dict_body();
  if (body == nullptr) return nullptr;
  for (const auto& [name, value] : body->items) {
    if (equal(name, key)) return &value;
  }
  return nullptr;
}

bool equal(const Value& a, const Value& b) {
  int64_t i = 0, j = 0;
  double x = 0, y = 0;
  if (a.integer(i) != nullptr && b.integer(j) != nullptr) return i == j;
  if (a.number(x) && b.number(y)) return x == y;
  if (a.text() != nullptr && b.text() != nullptr) return *a.text() == *b.text();
  if (a.is_none() && b.is_none()) return true;
  if (a.is_undefined() && b.is_undefined()) return true;
  if (const auto* p = a.items(), *q = b.items(); p != nullptr && q != nullptr) {
    return p->tuple == q->tuple && std::ranges::equal(p->items, q->items, equal);
  }
  if (const auto* p = a.dict_body(), *q = b.dict_body(); p != nullptr && q != nullptr) {
    return p->items.size() == q->items.size() && std::ranges::all_of(p->items, [&](const auto& item) {
             const Value* other = b.find(item.first);
             return other != nullptr && equal(item.second, *other);
           });
  }
  return a.as<Namespace*>() != nullptr && b.as<Namespace*>() != nullptr &&
         *a.as<Namespace*>() == *b.as<Namespace*>();
}

bool less(const Value& a, const Value& b) {
  int64_t i = 0, j = 0;
  double x = 0, y = 0;
  if (a.integer(i) != nullptr && b.integer(j) != nullptr) return i < j;
  if (a.number(x) && b.number(y)) return x < y;
  if (a.text() != nullptr && b.text() != nullptr)
    return *a.text() < *b.text();  // UTF-8 sorts as code points do
  if (const auto* p = a.items(), *q = b.items(); p != nullptr && q != nullptr && p->tuple == q->tuple) {
    return std::ranges::lexicographical_compare(p->items, q->items, less);
  }
  throw Failure("'<' is not defined between " + type_name(a) + " and " + type_name(b));
}

std::string type_name(const Value& value) {
  if (const auto* undefined = value.as<Undefined>())
    return undefined->name.empty() ? "undefined" : "undefined '" + undefined->name + "'";
  if (value.is_none()) return "None";
  if (value.as<bool>() != nullptr) return "bool";
  if (value.as<int64_t>() != nullptr) return "int";
  if (value.as<double>() != nullptr) return "float";
  if (value.text() != nullptr) return "string";
  if (value.items() != nullptr) return value.items()->tuple ? "tuple" : "list";
  if (value.dict_body() != nullptr) return "dict";
  if (value.as<Namespace*>() != nullptr) return "namespace";
  if (value.as<std::shared_ptr<LoopBody>>() != nullptr) return "loop";
  return "function";
}

Value::List iterate(const Value& value) {
  if (const auto* list = value.as<Value::List>()) return *list;
  std::vector<Value> items;
  if (const auto* dict = value.dict_body()) {
    for (const auto& item : dict->items) items.push_back(item.first);
  } else if (const auto* text = value.text()) {
    for (const auto character : characters(*text)) items.emplace_back(character);
  } else if (!value.is_undefined()) {
    throw Failure("cannot iterate over " + type_name(value));
  }
  return *Value::list(std::move(items)).as<Value::List>();
}

int64_t text_length(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> result;
  for (size_t at = 0; at < text.size();) {
    const auto size = static_cast<size_t>(tokenizer::char_at(text, at).size);
    result.push_back(text.substr(at, size));
    at += size;
  }
  return result;
}

}  // namespace qwb::jinja
