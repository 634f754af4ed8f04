// JSON from files, with errors that name the file, the key and the expectation.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace qwb {

using Json = nlohmann::ordered_json;  // keeps the order of keys: files we write read like their
                                      // page in formats/

// Strict JSON: duplicate keys, more than 256 levels of nesting, invalid UTF-8 and trailing text are
// errors (`failed`, with `where`). Beyond JSON, Python's NaN, Infinity and -Infinity are numbers;
// json_text() and json_canonical() write them again, json_number() refuses them.
Json parse_json(std::string_view text, const std::string& where);
// Describes a parser's exception (nlohmann's `byte` and `what`): row, column, reason and the last
// characters before, never the whole document. For readers with a parser of their own; `text` may
// be empty.
std::string json_problem(std::string_view text, size_t byte, const std::string& what);

// The value of `key` in `object`; throws if it is absent, null or of another type (integers must be
// exact: 4 and 4.0 both pass, 4.5 does not).
int64_t json_int(const Json& object, const std::string& key, const std::string& where);
double json_number(const Json& object, const std::string& key, const std::string& where);
bool json_bool(const Json& object, const std::string& key, const std::string& where);
std::string json_string(const Json& object, const std::string& key, const std::string& where);

// The same, with a value for an absent or null key.
int64_t json_int(const Json& object, const std::string& key, const std::string& where,
                 int64_t fallback);
double json_number(const Json& object, const std::string& key, const std::string& where,
                   double fallback);
bool json_bool(const Json& object, const std::string& key, const std::string& where, bool fallback);
std::string json_string(const Json& object, const std::string& key, const std::string& where,
                        const std::string& fallback);

// True if `object` is an object that has `key` with a value other than null.
bool json_has(const Json& object, const std::string& key);

// Text of any JSON value for a file: two spaces of indent and a final newline. Invalid UTF-8 is
// replaced, never thrown.
std::string json_text(const Json& value);

// The same value as one line with sorted keys: equal values give equal texts, whatever the order or
// spacing of the file. For hashing.
std::string json_canonical(const Json& value);

}  // namespace qwb
