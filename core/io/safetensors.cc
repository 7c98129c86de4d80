#include "tenun/core/io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <unordered_map>
#include <unordered_set>

#include "tenun/core/check.h"
#include "tenun/core/io/atomic_file.h"
#include "tenun/core/io/json.h"
#include "tenun/core/io/mapped_file.h"
#include "tenun/core/io/utf8.h"
#include "tenun/core/parallel.h"

namespace tenun {
namespace {

constexpr size_t kMaxHeader = 100'000'000;  // the limit of the reference implementation

// In the order of the reference implementation, which writes the last of them first.
struct DTypeName {
  const char* name;
  DType dtype;
};
constexpr DTypeName kDTypes[] = {
    {"BOOL", DType::boolean}, {"U8", DType::u8},     {"I8", DType::i8},
    {"F16", DType::f16},      {"BF16", DType::bf16}, {"I32", DType::i32},
    {"F32", DType::f32},      {"F64", DType::f64},   {"I64", DType::i64}};

int dtype_order(DType d) {
  int i = 0;
  while (kDTypes[i].dtype != d) ++i;
  return i;
}

Json check_json(std::span<const std::byte> file, std::string_view where) {
  check<IoError>(file.size() >= 8, where, "not a safetensors file: only {} bytes long",
                 file.size());
  uint64_t n = 0;
  std::memcpy(&n, file.data(), 8);
  check<IoError>(n <= kMaxHeader, where,
                 "not a safetensors file: it claims a header of {} bytes (at most {} are allowed)",
                 n, kMaxHeader);
  check<IoError>(n <= file.size() - 8, where,
                 "truncated: the header takes {} bytes, {} are left in the file", n,
                 file.size() - 8);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, n);
  check<IoError>(text.starts_with('{'), where,
                 "not a safetensors file: the header is not a JSON object");
  return Json::parse(text, where);
}

TensorInfo parse_entry(const std::string& name, const Json& entry, std::string_view where) {
  const auto bad = [&](std::string_view what) {
    fail<IoError>(where, "tensor \"{}\": {}", name, what);
  };
  if (!entry.is_object()) bad("its entry is not an object");
  const Json *dtype = entry.find("dtype"), *shape = entry.find("shape"),
             *offsets = entry.find("data_offsets");
  if (dtype == nullptr || shape == nullptr || offsets == nullptr)
    bad("its entry must have dtype, shape and data_offsets");
  if (!dtype->is_string() || !shape->is_array() || !offsets->is_array() ||
      offsets->as_array().size() != 2)
    bad("dtype must be a string, shape a list, data_offsets a list of two");

  TensorInfo info;
  info.name = name;
  const auto* known = std::find_if(std::begin(kDTypes), std::end(kDTypes), [&](const DTypeName& d) {
    return d.name == dtype->as_string();
  });
  if (known == std::end(kDTypes))
    bad(fmt::format("dtype {} is not supported; use one of F32 F64 BF16 F16 I8 U8 I32 I64 BOOL",
                    dtype->as_string()));
  info.dtype = known->dtype;

  const auto size = [&](const Json& j, const char* what) {
    if (!j.is_int() || j.as_int() < 0)
      bad(fmt::format("{} must be non-negative integers, not {}", what, j.dump()));
    return j.as_int();
  };
  if (shape->as_array().size() > kMaxRank)
    bad(fmt::format("{} dimensions, at most {} are supported", shape->as_array().size(), kMaxRank));
  int64_t bytes = size_of(info.dtype),
          room = bytes;  // room: as if empty axes had size 1, for strides
  for (const Json& j : shape->as_array()) {
    const int64_t n = size(j, "sizes");
    if (__builtin_mul_overflow(room, std::max<int64_t>(n, 1), &room))
      bad("its size overflows 64 bits");
    bytes *= n;
    info.shape.push_back(n);
  }
  info.begin = static_cast<size_t>(size(offsets->as_array()[0], "offsets"));
  info.end = static_cast<size_t>(size(offsets->as_array()[1], "offsets"));
  if (info.end < info.begin || info.end - info.begin != static_cast<size_t>(bytes))
    bad(fmt::format("{} {} takes {} bytes, but its offsets are [{}, {}]", tenun::name(info.dtype),
                    info.shape.str(), bytes, info.begin, info.end));
  return info;
}

/// The tensors must fill the data exactly.
void check_coverage(const SafetensorsHeader& header, size_t file_size, std::string_view where) {
  std::vector<const TensorInfo*> order;
  for (const auto& t : header.tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  size_t end = 0;
  for (const TensorInfo* t : order) {
    check<IoError>(t->begin == end, where,
                   "tensor \"{}\": its data start at {}, where {} was expected ({})", t->name,
                   t->begin, end, t->begin < end ? "tensors overlap" : "a hole in the data");
    end = t->end;
  }
  const size_t data = file_size - header.data_start;
  check<IoError>(end <= data, where, "truncated: the tensors take {} bytes, the file has {}", end,
                 data);
  check<IoError>(end == data, where, "{} bytes after the last tensor", data - end);
}

/// Copies the data of all tensors into new ones, in parallel pieces.
std::vector<NamedTensor> copy_tensors(const std::vector<TensorInfo>& infos, const std::byte* data) {
  constexpr size_t kPiece = size_t{4} << 20;
  struct Piece {
    std::byte* to;
    const std::byte* from;
    size_t bytes;
    bool boolean;
  };
  std::vector<NamedTensor> out;
  std::vector<Piece> pieces;
  out.reserve(infos.size());
  for (const TensorInfo& info : infos) {
    out.push_back({info.name, Tensor(info.shape, info.dtype)});
    std::byte* to = out.back().tensor.raw();
    for (size_t at = info.begin; at < info.end; at += kPiece)
      pieces.push_back({to + (at - info.begin), data + at, std::min(kPiece, info.end - at),
                        info.dtype == DType::boolean});
  }
  parallel_for(0, static_cast<int64_t>(pieces.size()), 1, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const Piece& p = pieces[static_cast<size_t>(i)];
      std::memcpy(p.to, p.from, p.bytes);
      // A bool must be 0 or 1, whatever the file says.
      if (p.boolean)
        for (size_t k = 0; k < p.bytes; ++k) p.to[k] = std::byte{p.to[k] != std::byte{0}};
    }
  });
  return out;
}

TensorFile load_shards(const std::string& path) {
  constexpr size_t kMaxIndex = kMaxHeader;
  const Json index = Json::parse(read_file(path, kMaxIndex), path);
  const Json* map = index.is_object() ? index.find("weight_map") : nullptr;
  check<IoError>(map != nullptr && map->is_object(), path,
                 "no \"weight_map\" in this index of shards");
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();

  std::unordered_map<std::string, TensorFile> shards;
  TensorFile all;
  for (const auto& [name, file] : map->members()) {
    check<IoError>(file.is_string(), path, "the file of tensor \"{}\" is not a string", name);
    const std::string& shard = file.as_string();
    check<IoError>(!shard.empty() && shard.find('/') == std::string::npos && shard != "..", path,
                   "shard \"{}\" must be a file name in the same folder", shard);
    auto it = shards.find(shard);
    if (it == shards.end()) {
      it = shards.emplace(shard, load_safetensors(folder / shard)).first;
      all.metadata.insert(it->second.metadata.begin(), it->second.metadata.end());
    }
    const Tensor* t = it->second.find(name);
    check<IoError>(t != nullptr, path, "tensor \"{}\" is not in {}, as the index says", name,
                   shard);
    all.tensors.push_back({name, *t});
  }
  size_t stored = 0;
  for (const auto& [_, shard] : shards) stored += shard.tensors.size();
  check<IoError>(stored == all.tensors.size(), path,
                 "the shards hold {} tensors, the index names {}", stored, all.tensors.size());
  return all;
}

struct Plan {
  std::string head;           ///< length and JSON
  std::vector<size_t> order;  ///< of the data
};

Plan plan_file(std::span<const NamedTensor> tensors,
               const std::map<std::string, std::string>& metadata) {
  constexpr std::string_view kOp = "save_safetensors";
  Plan plan;
  std::unordered_set<std::string_view> names;
  for (const NamedTensor& t : tensors) {
    check(t.tensor.defined(), kOp, "tensor \"{}\" is undefined", t.name);
    check(t.name != "__metadata__" && is_utf8(t.name), kOp, "\"{}\" cannot be the name of a tensor",
          t.name);
    check(names.insert(t.name).second, kOp, "two tensors are named \"{}\"", t.name);
    plan.order.push_back(plan.order.size());
  }
  std::sort(plan.order.begin(), plan.order.end(), [&](size_t a, size_t b) {
    const int x = dtype_order(tensors[a].tensor.dtype()),
              y = dtype_order(tensors[b].tensor.dtype());
    return x != y ? x > y : tensors[a].name < tensors[b].name;
  });
  std::vector<size_t> begin(tensors.size());
  size_t at = 0;
  for (size_t i : plan.order) {
    begin[i] = at;
    at += tensors[i].tensor.nbytes();
  }

  Json::Object header;
  if (!metadata.empty()) {
    Json::Object text;
    for (const auto& [key, value] : metadata) text.emplace_back(key, value);
    header.emplace_back("__metadata__", Json::object(std::move(text)));
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& t = tensors[i].tensor;
    header.emplace_back(
        tensors[i].name,
        Json::object({{"dtype", kDTypes[dtype_order(t.dtype())].name},
                      {"shape", Json::Array(t.shape().begin(), t.shape().end())},
                      {"data_offsets", Json::array({begin[i], begin[i] + t.nbytes()})}}));
  }
  std::string json = Json::object(std::move(header)).dump();
  json.resize((json.size() + 7) / 8 * 8, ' ');
  check(json.size() <= kMaxHeader, kOp,
        "the names and metadata take {} bytes, at most {} are allowed", json.size(), kMaxHeader);
  const uint64_t n = json.size();
  plan.head.assign(reinterpret_cast<const char*>(&n), 8);
  plan.head += json;
  return plan;
}

/// Calls write(bytes) for the head and the tensors in order.
template <class F>
void stream(std::span<const NamedTensor> tensors,
            const std::map<std::string, std::string>& metadata, F&& write) {
  const Plan plan = plan_file(tensors, metadata);
  write(std::as_bytes(std::span(plan.head)));
  for (size_t i : plan.order) {
    const Tensor t = tensors[i].tensor.to(cpu()).contiguous();
    write(std::span(t.raw(), t.nbytes()));
  }
}

}  // namespace

const Tensor* TensorFile::find(std::string_view name) const {
  for (const NamedTensor& t : tensors)
    if (t.name == name) return &t.tensor;
  return nullptr;
}
const Tensor& TensorFile::at(std::string_view name) const {
  const Tensor* t = find(name);
  check<IoError>(t != nullptr, "safetensors", "no tensor is named \"{}\"", name);
  return *t;
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                           std::string_view where) {
  const Json json = check_json(file, where);
  uint64_t n = 0;
  std::memcpy(&n, file.data(), 8);
  SafetensorsHeader header;
  header.data_start = 8 + n;
  header.tensors.reserve(json.members().size());
  for (const auto& [name, entry] : json.members()) {
    if (name != "__metadata__") {
      header.tensors.push_back(parse_entry(name, entry, where));
      continue;
    }
    check<IoError>(entry.is_object(), where, "__metadata__ is not an object");
    for (const auto& [key, value] : entry.members()) {
      check<IoError>(value.is_string(), where, "__metadata__: the value of \"{}\" is not a string",
                     key);
      header.metadata[key] = value.as_string();
    }
  }
  check_coverage(header, file.size(), where);
  return header;
}

TensorFile parse_safetensors(std::span<const std::byte> file, std::string_view where) {
  SafetensorsHeader header = parse_safetensors_header(file, where);
  return {copy_tensors(header.tensors, file.data() + header.data_start),
          std::move(header.metadata)};
}

SafetensorsHeader load_safetensors_header(const std::string& path) {
  return parse_safetensors_header(MappedFile(path).bytes(), path);
}
TensorFile load_safetensors(const std::string& path) {
  if (path.ends_with(".index.json")) return load_shards(path);
  return parse_safetensors(MappedFile(path).bytes(), path);
}

void save_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                      const std::map<std::string, std::string>& metadata) {
  AtomicFile file(path);
  stream(tensors, metadata, [&](std::span<const std::byte> bytes) { file.write(bytes); });
  file.commit();
}
std::string dump_safetensors(std::span<const NamedTensor> tensors,
                             const std::map<std::string, std::string>& metadata) {
  std::string out;
  stream(tensors, metadata, [&](std::span<const std::byte> bytes) {
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
  return out;
}

}  // namespace tenun
