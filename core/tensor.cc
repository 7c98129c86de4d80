#include "tenun/core/tensor.h"

#include <cmath>

#include "tenun/core/allocator.h"
#include "tenun/core/check.h"

namespace tenun {

Storage::Storage(size_t n, Device d) : bytes(n), device(d) {
  check<DeviceError>(d.index == 0, "tensor",
                     "one GPU at a time is used, cuda:0, not {}; choose it "
                     "with CUDA_VISIBLE_DEVICES",
                     d);
  if (n > 0) data = static_cast<std::byte*>(allocator(d.type).allocate(n));
}
Storage::Storage(void* external, size_t n, Device d, std::function<void()> del)
    : data(static_cast<std::byte*>(external)), bytes(n), device(d), deleter(std::move(del)) {
  if (!deleter) deleter = [] {};
}
Storage::~Storage() {
  if (deleter)
    deleter();
  else if (data != nullptr)
    allocator(device.type).release(data);
}

namespace {
size_t byte_count(const Shape& shape, DType dtype) {
  int64_t bytes = 0;
  check<ShapeError>(!__builtin_mul_overflow(shape.numel(), size_of(dtype), &bytes), "tensor",
                    "{} is too large", shape);
  return static_cast<size_t>(bytes);
}
}  // namespace

Tensor::Tensor(const Shape& shape, DType dtype, Device device)
    : layout_(shape), numel_(shape.numel()), dtype_(dtype) {
  storage_ = std::make_shared<Storage>(byte_count(shape, dtype), device);
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  return full(shape, 0, dtype, device);
}
Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor t(shape, dtype, device);
  t.fill_(value);
  return t;
}
Tensor Tensor::scalar(double value, DType dtype, Device device) {
  return full({}, value, dtype, device);
}
Tensor Tensor::arange(int64_t n, DType dtype) {
  check(n >= 0, "arange", "negative count {}", n);
  std::vector<int64_t> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) v[static_cast<size_t>(i)] = i;
  return from(v, {n}).to(dtype);
}
Tensor Tensor::wrap(void* data, const Shape& shape, DType dtype, std::function<void()> deleter) {
  Tensor t;
  t.layout_ = Layout(shape);
  t.numel_ = shape.numel();
  t.dtype_ = dtype;
  check(data != nullptr || t.numel_ == 0, "wrap", "a null pointer for {}", shape);
  t.storage_ = std::make_shared<Storage>(data, byte_count(shape, dtype), cpu(), std::move(deleter));
  return t;
}

// Views made of a valid layout stay inside the storage: no check.
Tensor Tensor::viewed(const Layout& layout) const {
  Tensor t = *this;
  t.layout_ = layout;
  t.numel_ = layout.shape.numel();
  return t;
}

Tensor Tensor::with_layout(const Layout& layout) const {
  check_defined("with_layout");
  Tensor t = viewed(layout);
  if (t.numel_ == 0) return t;
  int64_t low = layout.offset, high = layout.offset;
  bool fits = true;
  for (int i = 0; i < layout.rank(); ++i) {
    int64_t reach = 0, &end = layout.strides[i] < 0 ? low : high;
    fits = fits && !__builtin_mul_overflow(layout.shape[i] - 1, layout.strides[i], &reach) &&
           !__builtin_add_overflow(end, reach, &end);
  }
  const auto elements = static_cast<int64_t>(storage_->bytes) / size_of(dtype_);
  check<ShapeError>(fits && low >= 0 && high < elements, "with_layout",
                    "sizes {} with strides {} and offset {} leave the {} elements of the storage",
                    layout.shape, layout.strides, layout.offset, elements);
  return t;
}

namespace {
Shape resolve(const Shape& shape, int64_t numel, const Tensor& x) {
  Shape s = shape;
  int unknown = -1;
  int64_t known = 1;
  for (int i = 0; i < s.size(); ++i) {
    if (s[i] == -1) {
      check<ShapeError>(unknown < 0, "view", "two sizes of {} are -1", shape);
      unknown = i;
    } else {
      check<ShapeError>(s[i] >= 0, "view", "negative size in {}", shape);
      check<ShapeError>(!__builtin_mul_overflow(known, s[i], &known), "view",
                        "{} has too many elements", shape);
    }
  }
  if (unknown >= 0 && known > 0 && numel % known == 0) s[unknown] = numel / known;
  check<ShapeError>((unknown < 0 || s[unknown] >= 0) && s.numel() == numel, "view",
                    "{} does not fit the {} elements of {}", shape, numel, x);
  return s;
}
}  // namespace

Tensor Tensor::view(const Shape& shape) const {
  Layout out;
  check<ShapeError>(layout_.view(resolve(shape, numel_, *this), out), "view",
                    "{} with strides {} cannot be viewed as {}; use reshape", *this, strides(),
                    shape);
  return viewed(out);
}
Tensor Tensor::reshape(const Shape& shape) const {
  Layout out;
  if (layout_.view(resolve(shape, numel_, *this), out)) return viewed(out);
  return contiguous().view(shape);
}
Tensor Tensor::permute(const Dims& axes) const { return viewed(layout_.permute(axes)); }
Tensor Tensor::transpose(int a, int b) const {
  Dims axes;
  for (int i = 0; i < rank(); ++i) axes.push_back(i);
  std::swap(axes[normalize_axis(a, rank(), "transpose")],
            axes[normalize_axis(b, rank(), "transpose")]);
  return permute(axes);
}
Tensor Tensor::slice(int axis, int64_t from, int64_t to, int64_t step) const {
  return viewed(layout_.slice(axis, from, to, step));
}
Tensor Tensor::select(int axis, int64_t index) const {
  const int a = normalize_axis(axis, rank(), "select");
  if (index < 0) index += dim(a);
  check(index >= 0 && index < dim(a), "select", "index {} is outside axis {} of {}", index, a,
        *this);
  return slice(a, index, index + 1).squeeze(a);
}
Tensor Tensor::expand(const Shape& shape) const { return viewed(layout_.expand(shape)); }
Tensor Tensor::unsqueeze(int axis) const {
  const int a = normalize_axis(axis, rank() + 1, "unsqueeze");
  Layout l = layout_;
  l.shape.insert(a, 1);
  l.strides.insert(a, 1);
  return viewed(l);
}
Tensor Tensor::squeeze(int axis) const {
  const int a = normalize_axis(axis, rank(), "squeeze");
  check<ShapeError>(dim(a) == 1, "squeeze", "axis {} of {} is not of size 1", a, *this);
  Layout l = layout_;
  l.shape.erase(a);
  l.strides.erase(a);
  return viewed(l);
}

Tensor Tensor::contiguous() const { return !defined() || layout_.contiguous() ? *this : clone(); }
Tensor Tensor::clone() const {
  if (!defined()) return {};
  Tensor t(shape(), dtype_, device());
  t.copy_(*this);
  return t;
}
Tensor Tensor::to(DType dtype) const {
  if (!defined() || dtype == dtype_) return *this;
  Tensor t(shape(), dtype, device());
  t.copy_(*this);
  return t;
}
Tensor Tensor::to(Device target) const {
  if (!defined() || target == device()) return *this;
  const Tensor c = contiguous();
  Tensor t(shape(), dtype_, target);
  const DeviceType gpu = target.type != DeviceType::cpu ? target.type : device().type;
  if (nbytes() > 0)
    device_ops(gpu).copy_bytes(t.storage_->data, target,
                               c.storage_->data + c.layout_.offset * size_of(dtype_), device(),
                               nbytes());
  return t;
}

double Tensor::item() const {
  check<ShapeError>(defined() && numel_ == 1, "item", "needs exactly one element, got {}", *this);
  return values<double>()[0];
}

Tensor& Tensor::fill_(double value) {
  check_defined("fill_");
  ++storage_->version;
  if (numel_ > 0) device_ops(device().type).fill(span_of(), value);
  return *this;
}
Tensor& Tensor::copy_(const Tensor& from) {
  check_defined("copy_");
  from.check_defined("copy_");
  check<DeviceError>(from.device() == device(), "copy_", "tensors on {} and {}; use to(device)",
                     device(), from.device());
  const Tensor source = from.shape() == shape() ? from : from.expand(shape());
  ++storage_->version;
  if (numel_ > 0) device_ops(device().type).copy(span_of(), source.span_of());
  return *this;
}
Tensor& Tensor::add_(const Tensor& from) {
  check_defined("add_");
  from.check_defined("add_");
  check<ShapeError>(from.shape() == shape(), "add_", "{} += {}", *this, from);
  check<DTypeError>(from.dtype() == dtype_, "add_", "{} += {}", *this, from);
  ++storage_->version;
  if (numel_ > 0) device_ops(device().type).add_into(span_of(), from.span_of());
  return *this;
}

Tensor& Tensor::draw_(const Draws& draws) {
  check_defined("draw_");
  check_contiguous("draw_");
  check<DTypeError>(is_floating(dtype_), "draw_", "{} cannot hold random reals", *this);
  ++storage_->version;
  if (numel_ > 0) device_ops(device().type).draw(span_of(), draws);
  return *this;
}

bool Tensor::all_finite() const {
  return !is_floating(dtype_) || numel_ == 0 || device_ops(device().type).all_finite(span_of());
}

void Tensor::check_defined(const char* op) const {
  check<ShapeError>(defined(), op, "the tensor is undefined");
}
void Tensor::check_access(DType want) const {
  check_defined("data");
  check<DTypeError>(want == dtype_, "data", "asked for {}, but the tensor is {}", name(want),
                    *this);
  check_reachable();
}
void Tensor::unreachable() const {
  fail<DeviceError>("data", "{} is on {}, where this code cannot read it; use to(cpu())", *this,
                    device());
}
void Tensor::check_contiguous(const char* op) const {
  check<ShapeError>(layout_.contiguous(), op,
                    "needs a contiguous tensor, got strides {}; call contiguous()", strides());
}
void Tensor::check_count(int64_t n) const {
  check<ShapeError>(n == numel_, "tensor", "{} values given for shape {}", n, shape());
}

std::string Tensor::describe() const {
  return defined() ? fmt::format("{}{}", name(dtype_), shape().str()) : "undefined tensor";
}

std::string Tensor::str(int edge) const {
  if (!defined()) return describe();
  const bool real = is_floating(dtype_);
  const std::vector<double> v = real ? values<double>() : std::vector<double>();
  const std::vector<int64_t> whole = real ? std::vector<int64_t>() : values<int64_t>();
  std::string out;
  const Layout dense(shape());
  const std::function<void(int, int64_t)> print = [&](int d, int64_t at) {
    if (d == rank()) {
      const auto i = static_cast<size_t>(at);
      out += real ? fmt::format("{:.6g}", v[i]) : fmt::format("{}", whole[i]);
      return;
    }
    out += "[";
    for (int64_t i = 0; i < dim(d); ++i) {
      if (dim(d) > 2 * edge + 1 && i == edge) {
        out += ", ...";
        i = dim(d) - edge;
      }
      if (i > 0)
        out += d + 1 < rank() ? ",\n" + std::string(static_cast<size_t>(d) + 1, ' ') : ", ";
      print(d + 1, at + i * dense.strides[d]);
    }
    out += "]";
  };
  print(0, 0);
  return out + "  " + describe();
}

}  // namespace tenun
