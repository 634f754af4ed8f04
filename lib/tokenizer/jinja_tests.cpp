// The tests: what may follow `is`, and what select and its kin take.
#include <map>

#include "lib/tokenizer/jinja_builtins.h"

namespace qwb::jinja {
namespace {

using Test = bool (*)(const Value&, const Arguments&, Budget&);

template <char... symbol>
bool comparing(const Value& v, const Arguments& a, Budget& b) {
  constexpr char text[] = {symbol..., '\0'};
  return compare(text, v, a.get(0, "other", Undefined{"argument"}), b);
}

int64_t whole_number(const Value& value) {
  int64_t whole = 0;
  if (value.integer(whole) == nullptr) throw Failure("the test needs an integer");
  return whole;
}

const std::map<std::string_view, Test>& tests() {
  static const std::map<std::string_view, Test> table = {
      {"defined", [](const Value& v, const Arguments&, Budget&) { return !v.is_undefined(); }},
      {"undefined", [](const Value& v, const Arguments&, Budget&) { return v.is_undefined(); }},
      {"none", [](const Value& v, const Arguments&, Budget&) { return v.is_none(); }},
      {"string", [](const Value& v, const Arguments&, Budget&) { return v.text() != nullptr; }},
      {"mapping", [](const Value& v, const Arguments&, Budget&) { return v.dict_body() != nullptr; }},
      {"sequence", [](const Value& v, const Arguments&,
                      Budget&) { return v.text() || v.items() || v.dict_body() || v.is_undefined(); }},
      {"iterable", [](const Value& v, const Arguments&,
                      Budget&) { return v.text() || v.items() || v.dict_body() || v.is_undefined(); }},
      {"number", [](const Value& v, const Arguments&, Budget&) { return v.is_number(); }},
      {"integer", [](const Value& v, const Arguments&, Budget&) { return v.as<int64_t>() != nullptr; }},
      {"float", [](const Value& v, const Arguments&, Budget&) { return v.as<double>() != nullptr; }},
      {"boolean", [](const Value& v, const Arguments&, Budget&) { return v.as<bool>() != nullptr; }},
      {"true",
       [](const Value& v, const Arguments&, Budget&) { return v.as<bool>() != nullptr && *v.as<bool>(); }},
      {"false",
       [](const Value& v, const Arguments&, Budget&) { return v.as<bool>() != nullptr && !*v.as<bool>(); }},
      {"callable", [](const Value& v, const Arguments&,
                      Budget&) { return v.as<Method>() || v.as<Builtin>() || v.as<MacroRef>(); }},
      {"lower", [](const Value& v, const Arguments&,
                   Budget& b) { return call_method(to_text(v), "islower", {}, b).truth(); }},
      {"upper", [](const Value& v, const Arguments&,
                   Budget& b) { return call_method(to_text(v), "isupper", {}, b).truth(); }},
      {"odd", [](const Value& v, const Arguments&, Budget&) { return whole_number(v) % 2 != 0; }},
      {"even", [](const Value& v, const Arguments&, Budget&) { return whole_number(v) % 2 == 0; }},
      {"divisibleby", [](const Value& v, const Arguments& a,
                         Budget& b) { return !arithmetic("%", v, a.get(0, "num", int64_t{0}), b).truth(); }},
      {"eq", comparing<'=', '='>},
      {"==", comparing<'=', '='>},
      {"equalto", comparing<'=', '='>},
      {"ne", comparing<'!', '='>},
      {"!=", comparing<'!', '='>},
      {"lt", comparing<'<'>},
      {"<", comparing<'<'>},
      {"lessthan", comparing<'<'>},
      {"gt", comparing<'>'>},
      {">", comparing<'>'>},
      {"greaterthan", comparing<'>'>},
      {"le", comparing<'<', '='>},
      {"<=", comparing<'<', '='>},
      {"ge", comparing<'>', '='>},
      {">=", comparing<'>', '='>},
      {"in", comparing<'i', 'n'>},
      {"sameas",
       [](const Value& v, const Arguments& a, Budget& b) {
         const Value other = a.get(0, "other", Undefined{});
         return v.data.index() == other.data.index() && compare("==", v, other, b);
       }},
  };
  return table;
}

}  // namespace

bool apply_test(std::string_view name, const Value& value, const Arguments& arguments, Budget& budget) {
  budget.charge(8);
  const auto found = tests().find(name);
  if (found == tests().end()) throw Failure("the test '" + std::string(name) + "' is not supported");
  return found->second(value, arguments, budget);
}

}  // namespace qwb::jinja
