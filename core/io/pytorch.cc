#include "tenun/core/io/pytorch.h"

#include <algorithm>
#include <optional>

#include "tenun/core/check.h"
#include "tenun/core/io/mapped_file.h"
#include "tenun/core/io/zip.h"

namespace tenun {
namespace {

using Kind = PickleValue::Kind;

struct TorchType {
  const char *storage, *dtype;
  DType type;
};
constexpr TorchType kTypes[] = {{"torch.FloatStorage", "torch.float32", DType::f32},
                                {"torch.DoubleStorage", "torch.float64", DType::f64},
                                {"torch.BFloat16Storage", "torch.bfloat16", DType::bf16},
                                {"torch.HalfStorage", "torch.float16", DType::f16},
                                {"torch.CharStorage", "torch.int8", DType::i8},
                                {"torch.ByteStorage", "torch.uint8", DType::u8},
                                {"torch.IntStorage", "torch.int32", DType::i32},
                                {"torch.LongStorage", "torch.int64", DType::i64},
                                {"torch.BoolStorage", "torch.bool", DType::boolean}};
constexpr std::string_view kUntyped = "torch.storage.UntypedStorage";

/// Storages in the archive, and the few functions that PyTorch's pickles call.
class TorchHooks : public PickleHooks {
 public:
  TorchHooks(const ZipReader& zip, std::string prefix, std::string_view where)
      : zip_(zip), prefix_(std::move(prefix)), where_(where) {}

  /// ("storage", class, key, location, elements): an opaque value with the class as its name.
  void persistent(const PickleValue& id, PickleValue& out) override {
    const auto& v = id.items;
    if (!id.is(Kind::tuple) || v.size() < 5 || !v[0]->is(Kind::string) || v[0]->text != "storage")
      return;
    check<IoError>(v[1]->is(Kind::opaque) && v[2]->is(Kind::string), where_,
                   "a broken reference to a storage");
    const std::string& key = v[2]->text;
    const ZipEntry* entry = zip_.find(prefix_ + "data/" + key);
    check<IoError>(entry != nullptr, where_, "the storage \"{}\" is not in the archive", key);
    auto source = std::make_shared<TensorSource>();
    source->storage = zip_.view(*entry);
    const TorchType* t = find_type([&](const TorchType& e) { return v[1]->text == e.storage; });
    if (t != nullptr) source->dtype = t->type;
    out.text = v[1]->text;
    if (t != nullptr || out.text == kUntyped) out.source = std::move(source);
  }

  PickleValue* reduce(std::string_view name, const PickleValue& args, PickleValue& fresh) override {
    const auto& a = args.items;
    if (name == "torch._utils._rebuild_tensor_v2" || name == "torch._utils._rebuild_tensor")
      return rebuild(a, nullptr, fresh);
    if (name == "torch._utils._rebuild_tensor_v3")
      return rebuild(a, a.size() > 6 ? a[6] : nullptr, fresh);
    if (name == "torch._utils._rebuild_parameter" ||
        name == "torch._utils._rebuild_parameter_with_state")
      return a.empty() ? nullptr : a[0];
    if (name == "torch.Size" && a.size() == 1 && a[0]->is(Kind::tuple)) return a[0];
    if (name == "torch._tensor._rebuild_from_type_v2" && a.size() >= 3 && a[0]->is(Kind::opaque) &&
        a[2]->is(Kind::tuple) && a[0]->text != name)
      return reduce(a[0]->text, *a[2], fresh);
    return nullptr;
  }

 private:
  template <class F>
  static const TorchType* find_type(F&& f) {
    const auto* t = std::find_if(std::begin(kTypes), std::end(kTypes), f);
    return t == std::end(kTypes) ? nullptr : t;
  }

  /// Non-negative integers, at most six; nothing where there are more.
  std::optional<Shape> numbers(const PickleValue& v, const char* what) const {
    check<IoError>(v.is(Kind::tuple) || v.is(Kind::list), where_,
                   "the {} of a tensor is not a tuple", what);
    if (v.items.size() > kMaxRank) return {};
    Shape s;
    for (const PickleValue* n : v.items) {
      check<IoError>(n->is(Kind::integer) && n->integer >= 0, where_,
                     "the {} of a tensor holds something other than integers >= 0", what);
      s.push_back(n->integer);
    }
    return s;
  }

  /// (storage, offset, size, stride, ...). nullptr, so opaque, where dtype or rank are not ours.
  PickleValue* rebuild(const std::vector<PickleValue*>& a, const PickleValue* dtype,
                       PickleValue& fresh) const {
    check<IoError>(
        a.size() >= 4 && a[0]->is(Kind::opaque) && a[1]->is(Kind::integer) && a[1]->integer >= 0,
        where_, "a tensor without storage, offset, size and stride");
    const std::optional<Shape> shape = numbers(*a[2], "size"), strides = numbers(*a[3], "stride");
    if (!a[0]->source || !shape || !strides) return nullptr;
    auto source = std::make_shared<TensorSource>(*a[0]->source);
    if (a[0]->text == kUntyped) {
      const TorchType* t =
          find_type([&](const TorchType& e) { return dtype != nullptr && dtype->text == e.dtype; });
      if (t == nullptr) return nullptr;
      source->dtype = t->type;
    }
    check_bounds(*source, *shape, *strides, a[1]->integer);
    source->layout = Layout(*shape);
    source->layout.strides = *strides;
    source->layout.offset = a[1]->integer;
    fresh.kind = Kind::tensor;
    fresh.source = std::move(source);
    return &fresh;
  }

  /// Every element must lie in the storage, as long as it is in the file, not as the pickle claims.
  void check_bounds(const TensorSource& source, const Shape& shape, const Shape& strides,
                    int64_t offset) const {
    constexpr int64_t kMaxExpanded = int64_t{1} << 30;
    const int64_t width = size_of(source.dtype),
                  elements = static_cast<int64_t>(source.storage.size()) / width;
    int64_t last = offset, room = 1, bytes = 0;
    bool ok = shape.size() == strides.size(), empty = false;
    for (int i = 0; ok && i < shape.size(); ++i) {
      int64_t step = 0;
      empty = empty || shape[i] == 0;
      ok = !__builtin_mul_overflow(std::max<int64_t>(shape[i] - 1, 0), strides[i], &step) &&
           !__builtin_add_overflow(last, step, &last) &&
           !__builtin_mul_overflow(room, std::max<int64_t>(shape[i], 1), &room);
    }
    ok = ok && !__builtin_mul_overflow(room, width, &bytes) && (empty || last < elements);
    // Stride 0 repeats elements: a small file must not ask for all memory.
    ok = ok &&
         (empty || bytes <= std::max(kMaxExpanded, static_cast<int64_t>(source.storage.size())));
    check<IoError>(ok, where_,
                   "a tensor {} with strides {} at {} does not fit its storage of {} elements",
                   shape, strides, offset, elements);
  }

  const ZipReader& zip_;
  std::string prefix_;
  std::string_view where_;
};

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Collector {
 public:
  std::vector<NamedTensor> out;

  void visit(const PickleValue& v, const std::string& name, int depth) {
    constexpr int kMaxDepth = 50;
    constexpr int64_t kMaxVisits = 10'000'000;
    check<IoError>(depth <= kMaxDepth && ++visits_ <= kMaxVisits, "pickle",
                   "{} is nested too deeply, or contains itself", name);
    const auto child = [&](const std::string& key) {
      return name.empty() ? key : name + '.' + key;
    };
    if (v.is(Kind::tensor)) {
      out.push_back({name, v.tensor()});
    } else if (v.is(Kind::dict) || v.is(Kind::opaque)) {
      for (const auto& [key, value] : v.entries) {
        if (key->is(Kind::string)) visit(*value, child(key->text), depth + 1);
        if (key->is(Kind::integer)) visit(*value, child(std::to_string(key->integer)), depth + 1);
      }
    } else if (v.is(Kind::list) || v.is(Kind::tuple)) {
      for (size_t i = 0; i < v.items.size(); ++i)
        visit(*v.items[i], child(std::to_string(i)), depth + 1);
    }
  }

 private:
  int64_t visits_ = 0;
};

}  // namespace

PytorchFile::PytorchFile(const std::string& path) : map_(std::make_unique<MappedFile>(path)) {
  read(map_->bytes(), path);
}
PytorchFile::PytorchFile(std::span<const std::byte> file, std::string_view where) {
  read(file, where);
}
PytorchFile::~PytorchFile() = default;
PytorchFile::PytorchFile(PytorchFile&&) noexcept = default;
PytorchFile& PytorchFile::operator=(PytorchFile&&) noexcept = default;

void PytorchFile::read(std::span<const std::byte> file, std::string_view where) {
  constexpr uint64_t kMaxPickle = uint64_t{256} << 20;
  check<IoError>(file.empty() || file[0] != std::byte{0x80}, where,
                 "a plain pickle, or a checkpoint in the legacy format of PyTorch before 1.6; save "
                 "it again with a current "
                 "PyTorch: torch.save(torch.load(FILE, weights_only=True), FILE)");
  const ZipReader zip(file, where);
  const auto& entries = zip.entries();
  const auto pickle = std::find_if(entries.begin(), entries.end(), [](const ZipEntry& e) {
    return e.name == "data.pkl" ||
           (e.name.ends_with("/data.pkl") && std::count(e.name.begin(), e.name.end(), '/') == 1);
  });
  check<IoError>(pickle != entries.end(), where,
                 "not a PyTorch checkpoint: the archive has no data.pkl");
  const std::string prefix =
      pickle->name.substr(0, pickle->name.size() - std::string_view("data.pkl").size());
  if (const ZipEntry* order = zip.find(prefix + "byteorder"); order != nullptr)
    check<IoError>(as_text(zip.view(*order)) == "little", where,
                   "written on a big-endian machine, which is not supported");
  TorchHooks hooks(zip, prefix, where);
  // PyTorch can be told to write no checksums, so they are not verified (see ZipReader::view).
  check<IoError>(pickle->size <= kMaxPickle, where,
                 "its data.pkl has {} bytes, at most {} are allowed", pickle->size, kMaxPickle);
  root_ = &unpickle(as_text(zip.view(*pickle)), where, hooks, pool_);
}

std::vector<NamedTensor> collect_tensors(const PickleValue& value) {
  Collector c;
  c.visit(value, "", 0);
  return std::move(c.out);
}

}  // namespace tenun
