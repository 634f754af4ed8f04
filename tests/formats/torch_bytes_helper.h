// Files as torch.save makes them, and as its attackers do: pickles and archives put together from
// pieces.
#pragma once

#include <zlib.h>

#include <string>
#include <vector>

#include "lib/base/bytes.h"

namespace qwb::torch_bytes {

template <typename T>
std::string number(T value) {
  std::string text(sizeof(T), '\0');
  store(text.data(), value);
  return text;
}

// Operations of a pickle.
inline std::string text(const std::string& value) {
  return "X" + number(static_cast<uint32_t>(value.size())) + value;
}
inline std::string integer(int32_t value) {
  return "J" + number(value);
}
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string tuple(const std::string& items) {
  return "(" + items + "t";
}
inline std::string dict(const std::string& items) {
  return "}(" + items + "u";
}
inline std::string storage(int32_t elements, const std::string& type = "FloatStorage",
                           const std::string& key = "0") {
  return tuple(text("storage") + global("torch", type) + text(key) + text("cpu") +
               integer(elements)) +
         "Q";
}
inline std::string sizes(const std::vector<int32_t>& values) {
  std::string items;
  for (const int32_t value : values) items += integer(value);
  return tuple(items);
}
inline std::string hooks() {
  return global("collections", "OrderedDict") + ")R";
}
inline std::string tensor(const std::string& of, int32_t offset, const std::vector<int32_t>& shape,
                          const std::vector<int32_t>& strides, const std::string& more = "") {
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple(of + integer(offset) + sizes(shape) + sizes(strides) + "\x89" + hooks() + more) +
         "R";
}
inline std::string pickle(const std::string& body) {
  return "\x80\x02" + body + ".";
}

// The form of before PyTorch 1.6: `object` is the body of its pickle.
inline std::string stream(const std::string& object, const std::string& keys = "](e",
                          const std::string& storages = "") {
  const std::string magic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
  return magic + pickle("M\xe9\x03") + pickle(dict(text("little_endian") + "\x88")) +
         pickle(object) + pickle(keys) + storages;
}
// With one storage "0" of so many bytes and elements.
inline std::string stream_of(const std::string& object, int64_t elements, size_t bytes) {
  return stream(object, "](" + text("0") + "e", number(elements) + std::string(bytes, 'x'));
}

struct Member {
  std::string name, content;
  uint16_t flags = 0, method = 0;
  std::string local_name = {};  // if another than in the directory
  int sum_error = 0;
};

inline std::string header(const Member& member, const std::string& name) {
  const auto sum = static_cast<uint32_t>(
      ::crc32_z(0, reinterpret_cast<const Bytef*>(member.content.data()), member.content.size()) +
      static_cast<unsigned long>(member.sum_error));
  const auto size = static_cast<uint32_t>(member.content.size());
  return number<uint16_t>(0) + number(member.flags) + number(member.method) + number<uint32_t>(0) +
         number(sum) + number(size) + number(size) + number(static_cast<uint16_t>(name.size())) +
         number<uint16_t>(0);
}
inline std::string archive(const std::vector<Member>& members) {
  std::string bytes, directory;
  for (const Member& member : members) {
    const std::string& local = member.local_name.empty() ? member.name : member.local_name;
    directory += "PK\x01\x02" + number<uint16_t>(0) + header(member, member.name) +
                 std::string(10, '\0') + number(static_cast<uint32_t>(bytes.size())) + member.name;
    bytes += "PK\x03\x04" + header(member, local) + local + member.content;
  }
  const auto count = static_cast<uint16_t>(members.size());
  return bytes + directory + "PK\x05\x06" + number<uint32_t>(0) + number(count) + number(count) +
         number(static_cast<uint32_t>(directory.size())) +
         number(static_cast<uint32_t>(bytes.size())) + number<uint16_t>(0);
}

}  // namespace qwb::torch_bytes
