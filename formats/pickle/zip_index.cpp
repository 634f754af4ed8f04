// Layout: APPNOTE.TXT 6.3.10 of PKWARE, sections 4.3 to 4.5.
#include "formats/pickle/zip_index.h"

#include <zlib.h>

#include <algorithm>
#include <vector>

namespace qwb {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEnd = 0x06054b50;
constexpr uint32_t kEnd64 = 0x06064b50, kLocator64 = 0x07064b50, kDescriptor = 0x08074b50;
constexpr int64_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kEnd64Size = 56;
constexpr int64_t kLocatorSize = 20;
constexpr uint16_t kSizesFollow = 1 << 3, kUtf8 = 1 << 11;  // bits of a member's flags
constexpr uint32_t kIn64 = 0xffffffff;                      // the number stands in the extra field

class ZipIndex {
 public:
  ZipIndex(Bytes archive, const std::string& where) : archive_(archive), where_(where) {}

  std::map<std::string, ZipMember> read() {
    find_directory();
    std::map<std::string, ZipMember> members;
    int64_t at = directory_;
    for (int64_t i = 0; i < count_; ++i) {
      std::string name;
      const ZipMember member = read_entry(at, name);
      if (!members.emplace(name, member).second) damaged("the member '" + name + "' appears twice");
    }
    if (at != directory_ + directory_size_) damaged("its directory has another size than it says");
    check_apart();
    return members;
  }

 private:
  struct Header {
    uint16_t flags = 0, method = 0;
    uint32_t sum = 0;
    int64_t packed = 0, size = 0;
    std::string name;
    int64_t offset = 0;
  };

  [[noreturn]] void damaged(const std::string& what) const {
    throw Error(ErrorKind::failed, "the archive is damaged: " + what, where_,
                "fetch the file again; if it stays so, take a revision with safetensors");
  }
  [[noreturn]] void refused(const std::string& what) const {
    throw Error(ErrorKind::unsupported, "the archive " + what, where_,
                "torch.save never writes that: take a revision with safetensors");
  }
  template <typename T>
  int64_t number(int64_t at) const {
    inside(at, sizeof(T));
    return static_cast<int64_t>(load<T>(archive_.data() + at));
  }
  void inside(int64_t at, int64_t count) const {
    const auto size = static_cast<int64_t>(archive_.size());
    if (at < 0 || count < 0 || at > size || count > size - at)
      damaged("something reaches past its end");
  }
  std::string text(int64_t at, int64_t count) const {
    inside(at, count);
    return std::string(
        as_text(archive_.subspan(static_cast<size_t>(at), static_cast<size_t>(count))));
  }

  // The record at the very end; its numbers must be those of the 64-bit record, if there is one.
  void find_directory() {
    const int64_t end = static_cast<int64_t>(archive_.size()) - kEndSize;
    if (end < 0 || number<uint32_t>(end) != kEnd || number<uint16_t>(end + 20) != 0)
      damaged("its end is missing, or something follows");
    if (number<uint16_t>(end + 4) != 0 || number<uint16_t>(end + 6) != 0) refused("is split");
    count_ = number<uint16_t>(end + 10);
    directory_size_ = number<uint32_t>(end + 12);
    directory_ = number<uint32_t>(end + 16);
    int64_t directory_end = end;
    const int64_t locator = end - kLocatorSize;
    if (locator >= 0 && number<uint32_t>(locator) == kLocator64) {
      directory_end = number<int64_t>(locator + 8);
      read_end64(directory_end, locator);
    } else if (count_ == 0xffff || directory_size_ == kIn64 || directory_ == kIn64) {
      damaged("its 64-bit end is missing");
    }
    inside(directory_, directory_size_);
    if (directory_ + directory_size_ != directory_end)
      damaged("its directory does not lie before its end");
  }
  void read_end64(int64_t at, int64_t locator) {
    if (number<uint32_t>(at) != kEnd64 || at + kEnd64Size != locator)
      damaged("its 64-bit end is not where it should be");
    const int64_t count = number<int64_t>(at + 32), size = number<int64_t>(at + 40);
    const int64_t begin = number<int64_t>(at + 48);
    if ((count_ != 0xffff && count_ != count) ||
        (directory_size_ != kIn64 && directory_size_ != size) ||
        (directory_ != kIn64 && directory_ != begin))
      damaged("its two ends tell different things");
    count_ = count;
    directory_size_ = size;
    directory_ = begin;
    inside(begin, size);
  }

  // The entry at `at` of the directory, compared with what stands before the member itself.
  ZipMember read_entry(int64_t& at, std::string& name) {
    if (number<uint32_t>(at) != kCentralHeader) damaged("an entry of its directory is missing");
    Header entry = read_header(at + 8, at + kCentralSize, at + 28);
    const int64_t name_size = number<uint16_t>(at + 28), extra = number<uint16_t>(at + 30);
    const int64_t comment = number<uint16_t>(at + 32);
    entry.offset = number<uint32_t>(at + 42);
    if (number<uint16_t>(at + 34) != 0) refused("is split");
    widen(at + kCentralSize + name_size, extra, entry);
    at += kCentralSize + name_size + extra + comment;
    check_form(entry);
    name = entry.name;
    return read_local(entry);
  }
  // The fields that both headers have in the same order: from the flags to the size, then the name.
  Header read_header(int64_t at, int64_t name, int64_t name_size) const {
    Header header;
    header.flags = static_cast<uint16_t>(number<uint16_t>(at));
    header.method = static_cast<uint16_t>(number<uint16_t>(at + 2));
    header.sum = static_cast<uint32_t>(number<uint32_t>(at + 8));
    header.packed = number<uint32_t>(at + 12);
    header.size = number<uint32_t>(at + 16);
    header.name = text(name, number<uint16_t>(name_size));
    return header;
  }
  // Numbers of 64 bits, in the order of the standard; those that fit in 32 are not repeated.
  void widen(int64_t at, int64_t size, Header& header) const {
    inside(at, size);
    const int64_t end = at + size;
    bool seen = false;
    while (end - at >= 4) {
      const int64_t kind = number<uint16_t>(at), length = number<uint16_t>(at + 2);
      if (at + 4 + length > end) damaged("an extra field reaches past its end");
      if (kind == 1 && !seen) widen_from(at + 4, length, header);
      seen = seen || kind == 1;
      at += 4 + length;
    }
    if (header.size == kIn64 || header.packed == kIn64 || header.offset == kIn64)
      damaged("a size of 64 bits is missing");
  }
  void widen_from(int64_t at, int64_t length, Header& header) const {
    const int64_t end = at + length;
    for (int64_t* field : {&header.size, &header.packed, &header.offset}) {
      if (*field != kIn64) continue;
      if (at + 8 > end) damaged("a size of 64 bits is missing");
      *field = number<int64_t>(at);
      at += 8;
    }
  }
  void check_form(const Header& header) const {
    const std::string member = "the member '" + header.name.substr(0, 200) + "'";
    if (header.method != 0)
      refused("has " + member + " compressed (method " + std::to_string(header.method) + ")");
    if ((header.flags & ~(kSizesFollow | kUtf8)) != 0)
      refused("has " + member + " with the flags " + std::to_string(header.flags));
    if (header.packed != header.size) damaged(member + " has two sizes");
  }
  ZipMember read_local(const Header& entry) {
    const int64_t at = entry.offset;
    const std::string member = "the member '" + entry.name.substr(0, 200) + "'";
    if (number<uint32_t>(at) != kLocalHeader) damaged(member + " has no header");
    Header local = read_header(at + 6, at + kLocalSize, at + 26);
    const int64_t name_size = number<uint16_t>(at + 26), extra = number<uint16_t>(at + 28);
    const int64_t begin = at + kLocalSize + name_size + extra;
    widen(at + kLocalSize + name_size, extra, local);
    const bool later = (local.flags & kSizesFollow) != 0;
    const bool untold = later && local.sum == 0 && local.size == 0 && local.packed == 0;
    if (local.name != entry.name || local.flags != entry.flags || local.method != entry.method ||
        (!untold &&
         (local.sum != entry.sum || local.size != entry.size || local.packed != entry.packed)))
      damaged(member + " has two headers that tell different things");
    inside(begin, entry.size);
    const ZipMember found{begin, begin + entry.size, entry.sum};
    int64_t end = found.end;
    if (later) end = check_descriptor(entry, found.end, member);
    taken_.emplace_back(at, end);
    return found;
  }
  // Sum and sizes once more behind the member, of 32 or of 64 bits.
  int64_t check_descriptor(const Header& entry, int64_t at, const std::string& member) const {
    if (number<uint32_t>(at) != kDescriptor || number<uint32_t>(at + 4) != entry.sum)
      damaged(member + " has two sums");
    if (number<uint32_t>(at + 8) == entry.size && number<uint32_t>(at + 12) == entry.size)
      return at + 16;
    if (number<int64_t>(at + 8) != entry.size || number<int64_t>(at + 16) != entry.size)
      damaged(member + " has two sizes");
    return at + 24;
  }
  // No byte belongs to two members or to the directory.
  void check_apart() {
    std::sort(taken_.begin(), taken_.end());
    int64_t at = 0;
    for (const auto& [begin, end] : taken_) {
      if (begin < at) damaged("two members overlap");
      at = end;
    }
    if (at > directory_) damaged("a member overlaps the directory");
  }

  Bytes archive_;
  const std::string& where_;
  int64_t directory_ = 0, directory_size_ = 0, count_ = 0;
  std::vector<std::pair<int64_t, int64_t>> taken_;  // header, bytes and descriptor of every member
};

}  // namespace

std::map<std::string, ZipMember> parse_zip_index(Bytes archive, const std::string& where) {
  return ZipIndex(archive, where).read();
}

void check_zip_sum(Bytes archive, const std::string& name, const ZipMember& member,
                   const std::string& where) {
  const Bytes bytes = archive.subspan(static_cast<size_t>(member.begin),
                                      static_cast<size_t>(member.end - member.begin));
  const auto sum = ::crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  if (static_cast<uint32_t>(sum) == member.sum) return;
  throw Error(ErrorKind::failed,
              "the archive is damaged: the bytes of '" + name + "' do not have their sum", where,
              "fetch the file again; if it stays so, take a revision with safetensors");
}

}  // namespace qwb
