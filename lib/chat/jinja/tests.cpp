// The tests: what may follow `is`, and what select and its kin take.
#include <map>

#include "lib/chat/jinja/builtins.h"
#include "lib/chat/jinja/unicode.h"

namespace qwb::jinja {
namespace {

struct TestCall {
  const Value& value;
  const Bound& given;
  Budget& budget;
};
struct Test {
  const char* parameters;
  bool (*call)(const TestCall&);
};

template <char... symbol>
bool comparing(const TestCall& c) {
  constexpr char text[] = {symbol..., '\0'};
  return compare(text, c.value, c.given.at(0), c.budget);
}

bool rest_is(const TestCall& c, const Value& divisor, int64_t rest) {
  return equal(arithmetic("%", c.value, divisor, c.budget), rest);
}

bool callable(const Value& v) {
  const auto* counter = v.as<Value::Counter>();
  return v.is_undefined() || v.is_function() || v.as<Value::Loop>() ||
         (counter != nullptr && !(*counter)->cycler);
}

// `is` of Python. Equal values may or may not be one object; where that cannot be decided, no
// answer is given.
bool same_object(const Value& a, const Value& b) {
  if (a.data.index() != b.data.index()) return false;
  if (a.is_none()) return true;
  if (const bool* flag = a.as<bool>()) return *flag == *b.as<bool>();
  int64_t i = 0, j = 0;
  if (a.integer(i) != nullptr && b.integer(j) != nullptr) {
    if (i != j) return false;
    if (i >= -5 && i <= 256) return true;
  } else if (const auto* text = a.as<Value::Text>()) {
    const auto& other = *b.as<Value::Text>();
    if (*text == other) return true;
    if (**text != *other) return false;
    if (text_length(**text) == 0) return true;
  } else if (const auto* list = a.as<Value::List>()) {
    if (*list == *b.as<Value::List>()) return true;
    if (!(*list)->tuple || !equal(a, b)) return false;
  } else if (const auto* dict = a.as<Value::Dict>()) {
    return *dict == *b.as<Value::Dict>();
  } else if (a.as<Namespace*>() != nullptr || a.as<Value::Loop>() != nullptr ||
             a.as<Value::Counter>() != nullptr || a.as<Value::Iterator>() != nullptr) {
    return equal(a, b);
  } else if (const double* real = a.as<double>(); real != nullptr && *real != *b.as<double>()) {
    return false;
  }
  throw Unsupported("'sameas' of equal values of type " + type_name(a) + " is not supported");
}

const std::map<std::string_view, Test> kTests = {
    {"defined", {"", [](const TestCall& c) { return !c.value.is_undefined(); }}},
    {"undefined", {"", [](const TestCall& c) { return c.value.is_undefined(); }}},
    {"none", {"", [](const TestCall& c) { return c.value.is_none(); }}},
    {"string", {"", [](const TestCall& c) { return c.value.text() != nullptr; }}},
    {"escaped", {"", [](const TestCall& c) { return c.value.is_markup(); }}},
    {"mapping", {"", [](const TestCall& c) { return c.value.dict_body() != nullptr; }}},
    {"sequence",
     {"",
      [](const TestCall& c) {
        return c.value.is_undefined() || c.value.text() || c.value.items() || c.value.dict_body() ||
               c.value.as<Range>();
      }}},
    {"iterable", {"", [](const TestCall& c) { return is_iterable(c.value); }}},
    {"number", {"", [](const TestCall& c) { return c.value.is_number(); }}},
    {"integer", {"", [](const TestCall& c) { return c.value.as<int64_t>() != nullptr; }}},
    {"float", {"", [](const TestCall& c) { return c.value.as<double>() != nullptr; }}},
    {"boolean", {"", [](const TestCall& c) { return c.value.as<bool>() != nullptr; }}},
    {"true",
     {"", [](const TestCall& c) { return c.value.as<bool>() != nullptr && *c.value.as<bool>(); }}},
    {"false",
     {"", [](const TestCall& c) { return c.value.as<bool>() != nullptr && !*c.value.as<bool>(); }}},
    {"callable", {"/", [](const TestCall& c) { return callable(c.value); }}},
    {"filter",
     {"",
      [](const TestCall& c) {
        require_hashable(c.value);
        return c.value.text() != nullptr && is_filter(*c.value.text());
      }}},
    {"test",
     {"",
      [](const TestCall& c) {
        require_hashable(c.value);
        return c.value.text() != nullptr && is_test(*c.value.text());
      }}},
    {"lower", {"", [](const TestCall& c) { return is_lower_text(to_text(c.value)); }}},
    {"upper", {"", [](const TestCall& c) { return is_upper_text(to_text(c.value)); }}},
    {"odd", {"", [](const TestCall& c) { return rest_is(c, int64_t{2}, 1); }}},
    {"even", {"", [](const TestCall& c) { return rest_is(c, int64_t{2}, 0); }}},
    {"divisibleby", {"num", [](const TestCall& c) { return rest_is(c, c.given.at(0), 0); }}},
    {"eq", {"b /", comparing<'=', '='>}},
    {"==", {"b /", comparing<'=', '='>}},
    {"equalto", {"b /", comparing<'=', '='>}},
    {"ne", {"b /", comparing<'!', '='>}},
    {"!=", {"b /", comparing<'!', '='>}},
    {"lt", {"b /", comparing<'<'>}},
    {"<", {"b /", comparing<'<'>}},
    {"lessthan", {"b /", comparing<'<'>}},
    {"gt", {"b /", comparing<'>'>}},
    {">", {"b /", comparing<'>'>}},
    {"greaterthan", {"b /", comparing<'>'>}},
    {"le", {"b /", comparing<'<', '='>}},
    {"<=", {"b /", comparing<'<', '='>}},
    {"ge", {"b /", comparing<'>', '='>}},
    {">=", {"b /", comparing<'>', '='>}},
    {"in", {"seq", comparing<'i', 'n'>}},
    {"sameas", {"other", [](const TestCall& c) { return same_object(c.value, c.given.at(0)); }}},
};

}  // namespace

bool is_test(std::string_view name) {
  return kTests.contains(name);
}

bool apply_test(const std::string& name, const Value& value, const Arguments& arguments,
                Budget& budget) {
  budget.charge(8);
  const auto found = kTests.find(name);
  if (found == kTests.end()) throw Failure("there is no test '" + name + "'");
  const Bound given(arguments, found->second.parameters, name);
  return found->second.call({value, given, budget});
}

}  // namespace qwb::jinja
