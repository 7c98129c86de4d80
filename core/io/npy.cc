#include "tenun/core/io/npy.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "tenun/core/check.h"
#include "tenun/core/io/atomic_file.h"
#include "tenun/core/io/mapped_file.h"
#include "tenun/core/io/zip.h"

namespace tenun {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

struct Header {
  std::string descr;
  bool fortran = false;
  Shape shape;
};

/// The dict literal of the header: three keys, one plain value each.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::string_view where) : text_(text), where_(where) {}

  Header parse() {
    Header h;
    bool seen[3] = {};
    expect('{');
    while (!accept('}')) {
      const std::string key = string();
      expect(':');
      const size_t k = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : 3;
      if (k == 3 || seen[k]) error(fmt::format("the key '{}' is unknown or comes twice", key));
      seen[k] = true;
      if (k == 0) h.descr = string();
      if (k == 1) h.fortran = boolean();
      if (k == 2) h.shape = shape();
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) error("text after the dict");
    if (!seen[0] || !seen[1] || !seen[2]) error("one of descr, fortran_order, shape is missing");
    return h;
  }

 private:
  [[noreturn]] void error(std::string_view what) const {
    fail<IoError>(where_, "broken NPY header: {}", what);
  }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) error(fmt::format("expected '{}' at byte {}", c, at_));
  }
  std::string string() {
    skip_space();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote == '[') error("structured arrays are not supported");
    if (quote != '\'' && quote != '"') error(fmt::format("expected a string at byte {}", at_));
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) error("a string does not end");
    std::string s(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return s;
  }
  bool boolean() {
    skip_space();
    for (const std::string_view word : {std::string_view("True"), std::string_view("False")}) {
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      return word == "True";
    }
    error("fortran_order must be True or False");
  }
  Shape shape() {
    Shape s;
    expect('(');
    int64_t elements = 1;
    while (!accept(')')) {
      skip_space();
      int64_t n = 0;
      const auto [end, code] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), n);
      if (code != std::errc() || n < 0) error("the sizes must be non-negative integers");
      if (__builtin_mul_overflow(elements, std::max<int64_t>(n, 1), &elements))
        error("the sizes overflow 64 bits");
      if (s.size() == kMaxRank) error(fmt::format("more than {} dimensions", kMaxRank));
      s.push_back(n);
      at_ = static_cast<size_t>(end - text_.data());
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return s;
  }

  std::string_view text_, where_;
  size_t at_ = 0;
};

struct Descr {
  const char* code;
  DType dtype;
};
constexpr Descr kDescr[] = {{"f4", DType::f32}, {"f8", DType::f64},     {"f2", DType::f16},
                            {"i1", DType::i8},  {"u1", DType::u8},      {"i4", DType::i32},
                            {"i8", DType::i64}, {"b1", DType::boolean}, {"u2", DType::bf16}};

DType dtype_of_descr(const std::string& descr, std::string_view where, const NpyOptions& options) {
  const char order = descr.empty() ? '\0' : descr[0];
  const std::string code = descr.substr(std::min<size_t>(1, descr.size()));
  check<IoError>(order != '>', where, "big-endian data ({}); save the array with .astype('<{}')",
                 descr, code);
  for (const Descr& d : kDescr) {
    if (code != d.code || (order != '<' && order != '|' && order != '=')) continue;
    check<IoError>(d.dtype != DType::bf16 || options.u2_is_bf16, where,
                   "16-bit unsigned integers are not supported; ask for u2_is_bf16 if they are the "
                   "bits of bf16");
    return d.dtype;
  }
  fail<IoError>(where, "dtype {} is not supported; use one of f4 f8 f2 i1 u1 i4 i8 b1", descr);
}

}  // namespace

Tensor parse_npy(std::span<const std::byte> file, std::string_view where,
                 const NpyOptions& options) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  check<IoError>(text.starts_with(kMagic) && text.size() >= 10, where, "not an NPY file");
  const int version = text[6];
  check<IoError>(version >= 1 && version <= 3, where, "NPY version {} is not supported", version);
  const size_t start = version == 1 ? 10 : 12;
  size_t length = 0;
  for (size_t i = start; i-- > 8 && start <= text.size();)
    length = length << 8 | static_cast<unsigned char>(text[i]);
  check<IoError>(start <= text.size() && length <= text.size() - start, where,
                 "truncated: the header does not fit the file");

  const Header header = HeaderParser(text.substr(start, length), where).parse();
  const DType dtype = dtype_of_descr(header.descr, where, options);
  // Both factors were checked: sizes by the parser, so that only this product can overflow.
  const auto elements = static_cast<uint64_t>(header.shape.numel());
  const size_t data = text.size() - start - length;
  const auto width = static_cast<uint64_t>(size_of(dtype));
  check<IoError>(data / width == elements && data % width == 0, where,
                 "{} {} does not take the {} bytes of the data", name(dtype), header.shape.str(),
                 data);

  Shape shape = header.shape;
  if (header.fortran) std::reverse(shape.begin(), shape.end());
  Tensor x(shape, dtype);
  if (data > 0) std::memcpy(x.raw(), file.data() + start + length, data);
  if (dtype == DType::boolean)
    for (std::byte *p = x.raw(), *end = p + data; p != end; ++p) *p = std::byte{*p != std::byte{0}};
  if (!header.fortran) return x;
  Dims axes;
  for (int i = shape.size() - 1; i >= 0; --i) axes.push_back(i);
  return x.permute(axes).contiguous();
}

std::string dump_npy(const Tensor& x) {
  const auto* d = std::find_if(std::begin(kDescr), std::end(kDescr),
                               [&](const Descr& e) { return e.dtype == x.dtype(); });
  std::string sizes;
  for (int64_t n : x.shape()) sizes += fmt::format("{}{}", sizes.empty() ? "" : ", ", n);
  if (x.rank() == 1) sizes += ',';
  std::string head = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}), }}",
                                 size_of(x.dtype()) == 1 ? '|' : '<', d->code, sizes);
  head.resize((head.size() + 10 + 1 + 63) / 64 * 64 - 10 - 1,
              ' ');  // the data start at a multiple of 64
  head += '\n';
  std::string out(kMagic);
  out += {'\1', '\0', static_cast<char>(head.size() & 0xff), static_cast<char>(head.size() >> 8)};
  out += head;
  const Tensor c = x.to(cpu()).contiguous();
  out.append(reinterpret_cast<const char*>(c.raw()), c.nbytes());
  return out;
}

Tensor load_npy(const std::string& path, const NpyOptions& options) {
  return parse_npy(MappedFile(path).bytes(), path, options);
}
void save_npy(const std::string& path, const Tensor& x) { write_file(path, dump_npy(x)); }

std::vector<NamedTensor> parse_npz(std::span<const std::byte> file, std::string_view where,
                                   const NpyOptions& options, size_t max_bytes) {
  const ZipReader zip(file, where);
  std::vector<NamedTensor> out;
  for (const ZipEntry& e : zip.entries()) {
    const std::string label = fmt::format("{}: {}", where, e.name);
    check<IoError>(e.name.ends_with(".npy"), label, "an NPZ file holds .npy entries only");
    const std::string data = zip.read(e, max_bytes);
    max_bytes -= data.size();
    out.push_back({e.name.substr(0, e.name.size() - 4),
                   parse_npy(std::as_bytes(std::span(data)), label, options)});
  }
  return out;
}
std::vector<NamedTensor> load_npz(const std::string& path, const NpyOptions& options) {
  return parse_npz(MappedFile(path).bytes(), path, options);
}

}  // namespace tenun
