// One object of the store on disk: its manifest, and the check of its bytes.
#pragma once

#include <cstdint>
#include <string>

#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb {

// Seconds since 1970.
int64_t unix_seconds();

// object.json of a folder that holds data/: the key, the time, and size and XXH3-128 of every file.
// Throws `failed` for anything in data/ that is neither a file nor a folder.
Json describe_object(const Path& object, const Json& fields, const std::string& note,
                     const Context& context);

// object.json, checked against its own sum and against `hex`. Throws `failed`.
Json read_object(const Path& object, const std::string& hex);

enum class ObjectCheck {
  shape,    // names and sizes
  changed,  // also every byte, if files may have changed since they were last hashed on this boot
  bytes,    // also every byte
};

// Throws `failed` if the object is there and the system does not let it be read (permissions, no
// more descriptors): that says nothing about its being damaged, and it must stay.
void require_readable(const Path& object);
// Returns what is wrong with the object, empty if nothing is. Records that the bytes were hashed.
std::string object_problem(const Path& object, const Json& manifest, ObjectCheck check,
                           const Context& context);

// Seconds since 1970 of the last use, as far as the cache could note it.
int64_t last_used(const Path& object);
// Notes a use now (best effort: the cache may be read-only).
void mark_used(const Path& object) noexcept;

}  // namespace qwb
