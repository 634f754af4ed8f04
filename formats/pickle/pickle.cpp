// A stack machine for the operations of pickle protocol 2 that torch.save writes. Every operation
// makes at most one value, so that the memory is bounded by the file's size.
#include "formats/pickle/pickle.h"

#include <algorithm>
#include <unordered_map>

#include "formats/pickle/globals.h"

namespace qwb {
namespace {

constexpr size_t kMaxPickle = size_t{256} << 20;
constexpr size_t kMaxValues = size_t{16} << 20;
constexpr size_t kMaxItems = size_t{64} << 20;  // of all containers together

// Operations by their byte, named as Python's pickletools does.
enum PickleOp : unsigned char {
  kMark = '(',
  kStop = '.',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kEmptyList = ']',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyTuple = ')',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kEmptySet = 0x8f,
};

class PickleMachine {
 public:
  PickleMachine(Bytes bytes, size_t begin, const std::string& where)
      : bytes_(bytes.first(std::min(bytes.size(), begin + kMaxPickle))),
        at_(begin),
        where_(where) {}

  PickleGraph run() {
    while (true) {
      op_at_ = at_;
      const auto op = take<unsigned char>();
      if (op_at_ == begin_ && op != kProto) damaged("it does not begin with its protocol");
      if (op == kStop) break;
      if (!constant(op) && !memo(op) && !container(op) && !fill(op) && !object(op)) unknown(op);
    }
    graph_.root = pop();
    if (!stack_.empty() || !marks_.empty()) damaged("values are left over at its end");
    graph_.end = at_;
    return std::move(graph_);
  }

 private:
  [[noreturn]] void damaged(const std::string& what) const {
    throw Error(ErrorKind::failed, "the pickle is damaged: " + what,
                where_ + ": byte " + std::to_string(op_at_), "fetch the file again");
  }
  [[noreturn]] void refused(const std::string& what) const {
    throw Error(ErrorKind::unsupported, "the pickle " + what,
                where_ + ": byte " + std::to_string(op_at_),
                "only state dicts of tensors are read, and nothing is ever executed: take a "
                "revision with safetensors, from an owner whom you trust");
  }
  [[noreturn]] void unknown(unsigned char op) const {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string name = {'0', 'x', kDigits[op >> 4], kDigits[op & 15]};
    if (op > ' ' && op < 0x7f) name += std::string(" ('") + static_cast<char>(op) + "')";
    refused("has the operation " + name + ", which no state dict needs");
  }

  Bytes take_bytes(size_t count) {
    if (count > bytes_.size() - at_) damaged("it ends inside of an operation");
    const Bytes part = bytes_.subspan(at_, count);
    at_ += count;
    return part;
  }
  template <typename T>
  T take() {
    return load<T>(take_bytes(sizeof(T)).data());
  }
  std::string take_line() {
    const std::string_view rest = as_text(bytes_.subspan(at_));
    const size_t length = rest.substr(0, 1000).find('\n');
    if (length == std::string_view::npos) damaged("a name has no end");
    at_ += length + 1;
    return std::string(rest.substr(0, length));
  }

  PickleId add(PickleValue value) {
    if (graph_.values.size() >= kMaxValues) refused("has too many values for a state dict");
    graph_.values.push_back(std::move(value));
    return static_cast<PickleId>(graph_.values.size() - 1);
  }
  bool push(PickleValue value) {
    stack_.push_back(add(std::move(value)));
    return true;
  }
  bool push(PickleKind kind, int64_t number = 0) { return push({kind, number, {}, {}}); }
  bool push_text(size_t count) {
    return push({PickleKind::text, 0, std::string(as_text(take_bytes(count))), {}});
  }
  // Nothing below the last mark is reached.
  PickleId pop() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) damaged("its stack is empty");
    const PickleId id = stack_.back();
    stack_.pop_back();
    return id;
  }
  std::vector<PickleId> pop_to_mark() {
    if (marks_.empty()) damaged("a mark is missing");
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleId> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return items;
  }
  PickleValue& top() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) damaged("its stack is empty");
    return graph_.values[stack_.back()];
  }
  const PickleValue& value(PickleId id) const { return graph_.values[id]; }
  void charge(size_t items) {
    items_ += items;
    if (items_ > kMaxItems) refused("has too many values for a state dict");
  }

  // Values without parts.
  bool constant(unsigned char op) {
    switch (op) {
      case kProto:
        if (const int version = take<unsigned char>(); version != 2)
          refused("has protocol " + std::to_string(version) + "; PyTorch writes protocol 2");
        return true;
      case kNone:
        return push(PickleKind::none);
      case kNewTrue:
        return push(PickleKind::boolean, 1);
      case kNewFalse:
        return push(PickleKind::boolean, 0);
      case kBinInt:
        return push(PickleKind::integer, take<int32_t>());
      case kBinInt1:
        return push(PickleKind::integer, take<uint8_t>());
      case kBinInt2:
        return push(PickleKind::integer, take<uint16_t>());
      case kLong1:
        return push(PickleKind::integer, take_long());
      case kBinFloat:
        take_bytes(8);  // no number with a fraction decides about a tensor
        return push(PickleKind::real);
      case kBinUnicode:
        return push_text(take<uint32_t>());
      case kShortBinString:
        return push_text(take<uint8_t>());
      case kGlobal:
        return global();
      default:
        return false;
    }
  }
  // Little-endian, of any length, negative if its highest bit is set.
  int64_t take_long() {
    const Bytes digits = take_bytes(take<uint8_t>());
    if (digits.size() > 8) damaged("an integer has more than 64 bits");
    uint64_t number = 0;
    for (size_t i = 0; i < digits.size(); ++i)
      number |= std::to_integer<uint64_t>(digits[i]) << 8 * i;
    const size_t bits = 8 * digits.size();
    if (bits > 0 && bits < 64 && (number >> (bits - 1) & 1) != 0) number |= ~uint64_t{0} << bits;
    return static_cast<int64_t>(number);
  }
  bool global() {
    const std::string module = take_line();
    const std::string name = module + "." + take_line();
    if (!known_global(name)) refused("names '" + name + "', which no state dict needs");
    return push({PickleKind::global, 0, name, {}});
  }

  bool memo(unsigned char op) {
    switch (op) {
      case kBinPut:
        return remember(take<uint8_t>());
      case kLongBinPut:
        return remember(take<uint32_t>());
      case kBinGet:
        return recall(take<uint8_t>());
      case kLongBinGet:
        return recall(take<uint32_t>());
      default:
        return false;
    }
  }
  bool remember(uint32_t place) {
    top();
    memo_[place] = stack_.back();
    return true;
  }
  bool recall(uint32_t place) {
    const auto it = memo_.find(place);
    if (it == memo_.end()) damaged("it recalls a value that it never kept");
    stack_.push_back(it->second);
    return true;
  }

  // Empty containers and tuples.
  bool container(unsigned char op) {
    switch (op) {
      case kMark:
        marks_.push_back(stack_.size());
        return true;
      case kEmptyList:
        return push(PickleKind::list);
      case kEmptyDict:
        return push(PickleKind::dict);
      case kEmptySet:
        return push(PickleKind::set);
      case kEmptyTuple:
        return push(PickleKind::tuple);
      case kTuple1:
      case kTuple2:
      case kTuple3:
        return tuple(op - kTuple1 + 1);
      case kTuple:
        return push_tuple(pop_to_mark());
      default:
        return false;
    }
  }
  bool tuple(int count) {
    std::vector<PickleId> items(static_cast<size_t>(count));
    for (size_t i = items.size(); i-- > 0;) items[i] = pop();
    return push_tuple(std::move(items));
  }
  bool push_tuple(std::vector<PickleId> items) {
    charge(items.size());
    return push({PickleKind::tuple, 0, {}, std::move(items)});
  }

  // Lists and dicts get their items.
  bool fill(unsigned char op) {
    switch (op) {
      case kAppend:
        return append(PickleKind::list, {pop()});
      case kAppends:
        return append(PickleKind::list, pop_to_mark());
      case kSetItem: {
        const PickleId item = pop();
        const PickleId key = pop();
        return append(PickleKind::dict, {key, item});
      }
      case kSetItems:
        return append(PickleKind::dict, pop_to_mark());
      default:
        return false;
    }
  }
  bool append(PickleKind kind, const std::vector<PickleId>& items) {
    PickleValue& to = top();
    if (to.kind != kind)
      refused("puts items into " + pickle_kind_name(to.kind) + ", which takes none");
    if (kind == PickleKind::dict && items.size() % 2 != 0) damaged("a key has no value");
    charge(items.size());
    to.items.insert(to.items.end(), items.begin(), items.end());
    return true;
  }

  // What Python would make by a call: described, never called.
  bool object(unsigned char op) {
    switch (op) {
      case kReduce: {
        const PickleId arguments = pop();
        return call(pop(), arguments);
      }
      case kNewObj: {
        const PickleId arguments = pop();
        const PickleId maker = pop();
        if (value(maker).text != "collections.OrderedDict") refused("makes an object of a class");
        return call(maker, arguments);
      }
      case kBuild:
        return build();
      case kBinPersId:
        return persistent();
      default:
        return false;
    }
  }
  bool call(PickleId called, PickleId arguments) {
    const PickleValue& maker = value(called);
    if (maker.kind != PickleKind::global) refused("calls " + pickle_kind_name(maker.kind));
    const std::string name = maker.text;
    if (value(arguments).kind != PickleKind::tuple) refused("calls '" + name + "' without a tuple");
    const std::vector<PickleId> items = value(arguments).items;
    switch (*known_global(name)) {
      case GlobalUse::ordered_dict:
        return ordered_dict(items);
      case GlobalUse::rebuild_tensor:
        charge(items.size());
        return push({PickleKind::tensor, 0, name, items});
      case GlobalUse::rebuild_parameter:
        if (items.size() != 3 || value(items[0]).kind != PickleKind::tensor)
          refused("makes a parameter of something else than a tensor");
        stack_.push_back(items[0]);
        return true;
      case GlobalUse::size:
        if (items.size() != 1 || value(items[0]).kind != PickleKind::tuple)
          refused("makes a size of something else than a tuple");
        stack_.push_back(items[0]);
        return true;
      case GlobalUse::device:
        return push(PickleKind::device);
      case GlobalUse::encode:
        if (items.empty() || value(items[0]).kind != PickleKind::text)
          refused("encodes something else than a text");
        stack_.push_back(items[0]);
        return true;
      case GlobalUse::tag:
        break;
    }
    refused("calls '" + name + "', which is only a name");
  }
  // Of nothing, or (Python 2) of one list of pairs.
  bool ordered_dict(const std::vector<PickleId>& arguments) {
    PickleValue dict{PickleKind::dict, 0, {}, {}};
    if (arguments.size() > 1) refused("makes a dict of several values");
    if (!arguments.empty()) {
      const PickleValue& pairs = value(arguments[0]);
      if (pairs.kind != PickleKind::list) refused("makes a dict of something else than a list");
      charge(2 * pairs.items.size());
      for (const PickleId pair : pairs.items) {
        if (value(pair).items.size() != 2) damaged("a key has no value");
        dict.items.insert(dict.items.end(), value(pair).items.begin(), value(pair).items.end());
      }
    }
    return push(std::move(dict));
  }
  // Only the versions of a model's parts, which torch keeps beside a state dict.
  bool build() {
    const PickleValue& state = value(pop());
    const bool versions = state.kind == PickleKind::dict && state.items.size() == 2 &&
                          value(state.items[0]).text == "_metadata";
    if (top().kind != PickleKind::dict || !versions)
      refused("sets attributes of " + pickle_kind_name(top().kind));
    return true;
  }
  bool persistent() {
    const PickleValue& id = value(pop());
    if (id.kind != PickleKind::tuple || id.items.size() < 5 || id.items.size() > 6 ||
        value(id.items[0]).text != "storage" || value(id.items[1]).kind != PickleKind::global ||
        value(id.items[2]).kind != PickleKind::text ||
        value(id.items[4]).kind != PickleKind::integer)
      refused("names a persistent object that is no storage");
    charge(id.items.size());
    return push({PickleKind::storage, 0, {}, id.items});
  }

  Bytes bytes_;
  size_t at_ = 0;
  const size_t begin_ = at_;
  const std::string& where_;
  size_t op_at_ = 0;
  size_t items_ = 0;
  PickleGraph graph_;
  std::vector<PickleId> stack_;
  std::vector<size_t> marks_;  // how high the stack was
  std::unordered_map<uint32_t, PickleId> memo_;
};

}  // namespace

PickleGraph parse_pickle(Bytes bytes, size_t begin, const std::string& where) {
  return PickleMachine(bytes, begin, where).run();
}

}  // namespace qwb
