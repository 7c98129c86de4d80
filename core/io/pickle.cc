#include "tenun/core/io/pickle.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>

#include "tenun/core/check.h"
#include "tenun/core/io/utf8.h"

namespace tenun {
namespace {

using Kind = PickleValue::Kind;

class Unpickler {
 public:
  Unpickler(std::string_view text, std::string_view where, PickleHooks& hooks, PicklePool& pool)
      : text_(text), where_(where), hooks_(hooks), pool_(pool) {}

  const PickleValue& run() {
    if (take(1)[0] != '\x80') error("not a pickle of protocol 2 or later");
    if (const unsigned p = number(1); p < 2 || p > 5)
      error(fmt::format("pickle protocol {} is not supported", p));
    for (;;) {
      op_at_ = at_;
      const auto op = static_cast<unsigned char>(take(1)[0]);
      if (op == '.') return *pop();
      if (!constant(op) && !container(op) && !memo(op) && !object(op))
        error(fmt::format("opcode 0x{:02x} is not supported", op));
    }
  }

 private:
  static constexpr size_t kMaxValues = 5'000'000;

  [[noreturn]] void error(std::string_view what) const {
    fail<IoError>(where_, "broken pickle at byte {}: {}", op_at_, what);
  }

  // Input.
  std::string_view take(uint64_t n) {
    if (n > text_.size() - at_) error("truncated");
    const std::string_view s = text_.substr(at_, n);
    at_ += n;
    return s;
  }
  uint64_t number(size_t bytes) {
    uint64_t v = 0;
    std::memcpy(&v, take(bytes).data(), bytes);
    return v;
  }
  std::string_view line() {
    const size_t end = text_.find('\n', at_);
    if (end == std::string_view::npos) error("truncated");
    const std::string_view s = take(end - at_);
    ++at_;
    return s;
  }

  // Stack. A mark hides what is below it.
  PickleValue* make(Kind kind) {
    if (pool_.size() >= kMaxValues) error(fmt::format("more than {} values", kMaxValues));
    pool_.emplace_back();
    pool_.back().kind = kind;
    return &pool_.back();
  }
  PickleValue* push(PickleValue* v) {
    stack_.push_back(v);
    return v;
  }
  PickleValue* push(Kind kind) { return push(make(kind)); }
  [[nodiscard]] size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleValue* top() {
    if (stack_.size() <= floor()) error("the stack is empty");
    return stack_.back();
  }
  PickleValue* pop() {
    PickleValue* v = top();
    stack_.pop_back();
    return v;
  }
  /// Everything above the last mark, which goes.
  std::vector<PickleValue*> pop_to_mark() {
    if (marks_.empty()) error("no mark");
    const auto from = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleValue*> v(from, stack_.end());
    stack_.erase(from, stack_.end());
    marks_.pop_back();
    return v;
  }
  std::vector<PickleValue*> pop_many(size_t n) {
    std::vector<PickleValue*> v(n);
    for (size_t i = n; i-- > 0;) v[i] = pop();
    return v;
  }

  /// Counts what is copied from one value to another, which a small pickle could repeat for ever.
  void spend(size_t n) {
    copied_ += n;
    if (copied_ > kMaxValues) error("the same values are used too often");
  }

  // Pieces of values.
  bool integer(int64_t v, Kind kind = Kind::integer) {
    push(kind)->integer = v;
    return true;
  }
  bool text(Kind kind, std::string_view s) {
    if (kind == Kind::string && !is_utf8(s)) error("a string is not UTF-8");
    push(kind)->text = s;
    return true;
  }
  bool tuple(std::vector<PickleValue*> items, Kind kind = Kind::tuple) {
    push(kind)->items = std::move(items);
    return true;
  }
  void add_items(const std::vector<PickleValue*>& items, Kind kind) {
    PickleValue* v = top();
    if (!v->is(kind) && !v->is(Kind::opaque)) error("items for a value that is not a list or set");
    v->items.insert(v->items.end(), items.begin(), items.end());
  }
  void add_entries(PickleValue* to, const std::vector<PickleValue*>& flat) {
    if (!to->is(Kind::dict) && !to->is(Kind::opaque))
      error("entries for a value that is not a dict");
    if (flat.size() % 2 != 0) error("a key without a value");
    for (size_t i = 0; i < flat.size(); i += 2) to->entries.emplace_back(flat[i], flat[i + 1]);
  }

  bool constant(unsigned op) {
    switch (op) {
      case 'N': push(Kind::none); return true;
      case 0x88: return integer(1, Kind::boolean);
      case 0x89: return integer(0, Kind::boolean);
      case 'J': return integer(static_cast<int32_t>(number(4)));
      case 'K': return integer(static_cast<int64_t>(number(1)));
      case 'M': return integer(static_cast<int64_t>(number(2)));
      case 0x8a: return long_integer(take(number(1)));
      case 0x8b: return long_integer(take(number(4)));
      case 'G':
        push(Kind::real)->real = std::bit_cast<double>(__builtin_bswap64(number(8)));
        return true;
      case 'X': return text(Kind::string, take(number(4)));
      case 0x8c: return text(Kind::string, take(number(1)));
      case 0x8d: return text(Kind::string, take(number(8)));
      case 'T':
      case 'B': return text(Kind::bytes, take(number(4)));
      case 'U':
      case 'C': return text(Kind::bytes, take(number(1)));
      case 0x8e:
      case 0x96: return text(Kind::bytes, take(number(8)));
      default: return false;
    }
  }
  /// Two's complement, little-endian, any length; what does not fit 64 bits stays opaque.
  bool long_integer(std::string_view s) {
    if (s.size() > 8) {
      push(Kind::opaque)->text = "int";
      return true;
    }
    uint64_t v = !s.empty() && s.back() < 0 ? ~uint64_t{0} : 0;
    std::memcpy(&v, s.data(), s.size());
    return integer(static_cast<int64_t>(v));
  }

  bool container(unsigned op) {
    switch (op) {
      case '(': marks_.push_back(stack_.size()); return true;
      case ')': return tuple({});
      case 't': return tuple(pop_to_mark());
      case 0x85:
      case 0x86:
      case 0x87: return tuple(pop_many(op - 0x84));
      case ']': push(Kind::list); return true;
      case '}': push(Kind::dict); return true;
      case 0x8f: push(Kind::set); return true;
      case 0x91: return tuple(pop_to_mark(), Kind::set);
      case 'a': add_items(pop_many(1), Kind::list); return true;
      case 'e': add_items(pop_to_mark(), Kind::list); return true;
      case 0x90: add_items(pop_to_mark(), Kind::set); return true;
      case 's':
      case 'u': {
        const auto flat = op == 's' ? pop_many(2) : pop_to_mark();
        add_entries(top(), flat);
        return true;
      }
      case '0': (void)pop(); return true;
      case '1': (void)pop_to_mark(); return true;
      case '2': push(top()); return true;
      default: return false;
    }
  }

  bool memo(unsigned op) {
    switch (op) {
      case 0x95: (void)number(8); return true;  // FRAME: a hint about buffering
      case 'q': memo_[number(1)] = top(); return true;
      case 'r': memo_[number(4)] = top(); return true;
      case 0x94: {
        const uint64_t next = memo_.size();
        memo_[next] = top();
        return true;
      }
      case 'h': push(recall(number(1))); return true;
      case 'j': push(recall(number(4))); return true;
      default: return false;
    }
  }
  PickleValue* recall(uint64_t i) {
    const auto it = memo_.find(i);
    if (it == memo_.end()) error("a memo that was never set");
    return it->second;
  }

  bool object(unsigned op) {
    switch (op) {
      case 'c': {
        const std::string_view module = line(), name = line();
        return text(Kind::opaque, fmt::format("{}.{}", module, name));
      }
      case 0x93: {
        const auto v = pop_many(2);
        if (!v[0]->is(Kind::string) || !v[1]->is(Kind::string))
          error("a class name that is not a string");
        return text(Kind::opaque, fmt::format("{}.{}", v[0]->text, v[1]->text));
      }
      case 'Q': {
        const PickleValue* id = pop();
        PickleValue* v = push(Kind::opaque);
        v->text = "persistent";
        hooks_.persistent(*id, *v);
        return true;
      }
      case 'R':
      case 0x81: {
        const auto v = pop_many(2);
        call(*v[0], *v[1]);
        return true;
      }
      case 0x92: {
        const auto v = pop_many(3);
        call(*v[0], *v[1]);
        if (!v[2]->is(Kind::dict)) error("keyword arguments that are not a dict");
        PickleValue* made = top();
        spend(v[2]->entries.size());
        if (made->is(Kind::opaque))
          made->entries.insert(made->entries.end(), v[2]->entries.begin(), v[2]->entries.end());
        return true;
      }
      case 'b': {
        PickleValue* state = pop();
        build(*top(), state);
        return true;
      }
      default: return false;
    }
  }

  void call(const PickleValue& callable, const PickleValue& args) {
    if (!callable.is(Kind::opaque) || !args.is(Kind::tuple))
      error("a call of something that is not a class or function");
    PickleValue* fresh = make(Kind::opaque);
    PickleValue* made =
        dict_like(callable.text, args, *fresh) ? fresh : hooks_.reduce(callable.text, args, *fresh);
    if (made == nullptr) {
      spend(args.items.size());
      made = fresh;
      made->text = callable.text;
      made->items = args.items;
    }
    push(made);
  }
  /// Python's own dictionaries: their entries follow, or are a list of pairs.
  bool dict_like(std::string_view name, const PickleValue& args, PickleValue& out) {
    if (name != "collections.OrderedDict" && name != "collections.defaultdict") return false;
    out.kind = Kind::dict;
    if (args.items.size() != 1 || !args.items[0]->is(Kind::list)) return true;
    spend(args.items[0]->items.size());
    for (const PickleValue* pair : args.items[0]->items) {
      if (pair->items.size() != 2) error("an OrderedDict of something other than pairs");
      out.entries.emplace_back(pair->items[0], pair->items[1]);
    }
    return true;
  }
  /// The state of an opaque object: attributes where it is a dict, else one more argument. The
  /// state of what we understand (the _metadata of a state dict, say) has no meaning here.
  void build(PickleValue& v, PickleValue* state) {
    if (!v.is(Kind::opaque)) return;
    if (state->is(Kind::dict)) {
      spend(state->entries.size());
      const auto entries = state->entries;  // a copy: an object may be its own state
      v.entries.insert(v.entries.end(), entries.begin(), entries.end());
    } else {
      v.items.push_back(state);
    }
  }

  std::string_view text_, where_;
  PickleHooks& hooks_;
  PicklePool& pool_;
  size_t at_ = 0, op_at_ = 0, copied_ = 0;
  std::vector<PickleValue*> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, PickleValue*> memo_;
};

/// The last entry that fits, as a dict of Python would have it.
template <class F>
const PickleValue* find_entry(const PickleValue& v, F&& fits) {
  const auto it = std::find_if(v.entries.rbegin(), v.entries.rend(),
                               [&](const auto& e) { return fits(*e.first); });
  return it == v.entries.rend() ? nullptr : it->second;
}

}  // namespace

const PickleValue* PickleValue::find(std::string_view key) const {
  return find_entry(*this,
                    [&](const PickleValue& k) { return k.is(Kind::string) && k.text == key; });
}
const PickleValue* PickleValue::find(int64_t key) const {
  return find_entry(*this,
                    [&](const PickleValue& k) { return k.is(Kind::integer) && k.integer == key; });
}

Tensor PickleValue::tensor() const {
  check<IoError>(is(Kind::tensor), "pickle", "expected a tensor, got another value {}", text);
  const TensorSource& s = *source;
  Tensor out(s.layout.shape, s.dtype);
  if (out.numel() == 0) return out;
  const auto width = static_cast<size_t>(size_of(s.dtype));
  const std::byte* from = s.storage.data();
  if (s.layout.contiguous()) {
    std::memcpy(out.raw(), from + static_cast<size_t>(s.layout.offset) * width, out.nbytes());
  } else if (reinterpret_cast<uintptr_t>(from) % width == 0) {
    // Only read, so the const_cast is harmless.
    out.copy_(Tensor::wrap(const_cast<std::byte*>(from),
                           {static_cast<int64_t>(s.storage.size() / width)}, s.dtype)
                  .with_layout(s.layout));
  } else {
    Tensor aligned(Shape{static_cast<int64_t>(s.storage.size() / width)}, s.dtype);
    std::memcpy(aligned.raw(), from, aligned.nbytes());
    out.copy_(aligned.with_layout(s.layout));
  }
  if (s.dtype == DType::boolean)
    for (std::byte *p = out.raw(), *end = p + out.nbytes(); p != end; ++p)
      *p = std::byte{*p != std::byte{0}};
  return out;
}

const PickleValue& unpickle(std::string_view pickle, std::string_view where, PickleHooks& hooks,
                            PicklePool& pool) {
  return Unpickler(pickle, where, hooks, pool).run();
}

}  // namespace tenun
