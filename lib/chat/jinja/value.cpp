#include "lib/chat/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {

int64_t Range::length() const {
  if (step > 0 ? start >= stop : start <= stop) return 0;
  const auto from = static_cast<uint64_t>(step > 0 ? start : stop),
             to = static_cast<uint64_t>(step > 0 ? stop : start);
  const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : -static_cast<uint64_t>(step);
  return static_cast<int64_t>(std::min((to - from - 1) / stride, uint64_t{INT64_MAX} - 1) + 1);
}

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

Value Value::markup(std::string text) {
  Value value;
  value.data = Markup{std::make_shared<const std::string>(std::move(text))};
  return value;
}

Value Value::iterator(int depth, std::function<bool(Value&)> next, const char* type) {
  if (depth >= kMaxDepth) throw Failure("iterators are nested too deeply");
  auto body = std::make_shared<IteratorBody>();
  body->type = type;
  body->depth = depth + 1;
  body->next = std::move(next);
  return body;
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
      if (json.get<uint64_t>() > INT64_MAX)
        throw Unsupported("an integer in the messages has more than 63 bits");
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
      for (const auto& [key, value] : json.items())
        items.emplace_back(tokenizer::sanitize(key), from_json(value, depth + 1));
      return dict(std::move(items));
    }
    default:
      throw Failure("the messages hold something that is not JSON");
  }
}

const std::string* Value::text() const {
  if (const auto* plain = as<Text>()) return plain->get();
  if (const auto* marked = as<Markup>()) return marked->body.get();
  return nullptr;
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
  if (is_none()) return false;
  double number_value = 0;
  if (number(number_value)) return number_value != 0;
  if (const auto* loop = as<Loop>()) return (*loop)->length() > 0;
  if (const auto size = length()) return *size > 0;
  return true;
}

std::optional<int64_t> Value::length() const {
  if (is_undefined()) return 0;
  if (const auto* string = text()) return text_length(*string);
  if (const auto* list_value = items()) return static_cast<int64_t>(list_value->items.size());
  if (const auto* dict_value = dict_body()) return static_cast<int64_t>(dict_value->items.size());
  if (const auto* view = as<View>()) return static_cast<int64_t>(view->dict->items.size());
  if (const auto* range = as<Range>()) return range->length();
  if (const auto* loop = as<Loop>()) return (*loop)->length();
  return std::nullopt;
}

int Value::depth() const {
  if (const auto* list_value = items()) return list_value->depth;
  if (const auto* dict_value = dict_body()) return dict_value->depth;
  if (const auto* view = as<View>()) return view->dict->depth + 1;
  if (const auto* method = as<Method>()) return method->object->depth() + 1;
  if (const auto* iterator = as<Iterator>()) return (*iterator)->depth;
  if (const auto* counter = as<Counter>()) {
    int deepest = 0;
    for (const Value& item : (*counter)->items) deepest = std::max(deepest, item.depth());
    return deepest + 1;
  }
  // A loop's items are as deep as their source, whose iteration is under way.
  if (const auto* loop = as<Loop>()) return (*loop)->source.depth() + 1;
  return 0;
}

int64_t Value::weight() const {
  if (const auto* string = text()) return static_cast<int64_t>(string->size()) + 1;
  if (const auto* list_value = items()) return list_value->weight;
  if (const auto* dict_value = dict_body()) return dict_value->weight;
  if (const auto* view = as<View>()) return view->dict->weight;
  if (const auto* range = as<Range>()) return range->length();
  if (const auto* method = as<Method>()) return method->object->weight() + 1;
  return 1;
}

const Value* Value::find(const Value& key) const {
  const auto* body = dict_body();
  if (body == nullptr) return nullptr;
  for (const auto& [name, value] : body->items) {
    if (equal_items(name, key)) return &value;
  }
  return nullptr;
}

bool LoopBody::peek() {
  if (after) return true;
  Value item;
  if (!next(item)) return false;
  after = std::move(item);
  return true;
}

bool LoopBody::advance() {
  if (!peek()) return false;
  ++index0;
  before = std::move(current);
  current = std::move(after);
  after.reset();
  return true;
}

int64_t LoopBody::length() {
  if (known_length) return *known_length;
  known_length = source.length();
  if (!known_length) {
    std::vector<Value> rest;
    for (Value item; next(item);) rest.push_back(std::move(item));
    const auto left = static_cast<int64_t>(rest.size());
    next = iterate_once(Value::list(std::move(rest)));
    known_length = left + index0 + 1 + (after ? 1 : 0);
  }
  return *known_length;
}

namespace {

Value view_item(const View& view, size_t at) {
  const auto& [key, value] = view.dict->items[at];
  return view.of == View::Of::keys     ? key
         : view.of == View::Of::values ? value
                                       : Value::list({key, value}, true);
}

}  // namespace

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.text() || value.items() || value.dict_body() ||
         value.as<View>() || value.as<Range>() || value.as<Value::Iterator>() ||
         value.as<Value::Loop>();
}

std::function<bool(Value&)> iterate_once(const Value& value) {
  const auto counted = [](auto size, auto item) {
    return [at = decltype(size){0}, size, item](Value& out) mutable {
      if (at >= size) return false;
      out = item(at++);
      return true;
    };
  };
  if (value.is_undefined()) return [](Value&) { return false; };
  if (const auto* list = value.as<Value::List>())
    return counted((*list)->items.size(), [list = *list](size_t at) { return list->items[at]; });
  if (const auto* dict = value.as<Value::Dict>())
    return counted((*dict)->items.size(),
                   [dict = *dict](size_t at) { return dict->items[at].first; });
  if (const auto* view = value.as<View>())
    return counted(view->dict->items.size(),
                   [view = *view](size_t at) { return view_item(view, at); });
  if (const auto* range = value.as<Range>())
    return counted(range->length(),
                   [range = *range](int64_t at) { return Value(range.start + at * range.step); });
  if (const auto* text = value.text()) {
    auto keep = std::make_shared<const std::string>(*text);
    return [keep, at = size_t{0}](Value& out) mutable {
      if (at >= keep->size()) return false;
      const auto size = static_cast<size_t>(tokenizer::char_at(*keep, at).size);
      out = Value(std::string_view(*keep).substr(at, size));
      at += size;
      return true;
    };
  }
  if (const auto* iterator = value.as<Value::Iterator>())
    return [iterator = *iterator](Value& out) { return iterator->next(out); };
  if (value.as<Value::Loop>() != nullptr)
    throw Unsupported("iterating over 'loop' is not supported");
  throw Failure("cannot iterate over " + type_name(value));
}

Value::List iterate(const Value& value) {
  if (const auto* list = value.as<Value::List>(); list != nullptr && !(*list)->tuple) return *list;
  std::vector<Value> items;
  const auto next = iterate_once(value);
  for (Value item; next(item);) items.push_back(item);
  return *Value::list(std::move(items)).as<Value::List>();
}

int64_t text_length(std::string_view text) {
  return std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
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
