// Tensor: data with a layout. A Tensor is a handle: copies share the memory, and views (view,
// permute, slice, expand, ...) are new layouts on the same storage. It knows nothing of gradients;
// autograd/var.h has the tensor that does. Rank 0 to 6, sizes int64, strides in elements.
//
//   Tensor x = Tensor::from<float>({1, 2, 3, 4}, {2, 2});
//   Tensor y = x.transpose(0, 1).contiguous();
//   fmt::print("{}\n", y.str());
//
// Thread safety: tensors may be read from several threads; writing needs exclusive access. Every
// write (mutable_data, fill_, copy_, add_) raises the version of the storage, by which autograd
// notices that a tensor which it saved was overwritten. Errors: ShapeError, DTypeError, ValueError.
#pragma once
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tenun/core/device.h"
#include "tenun/core/dtype.h"
#include "tenun/core/layout.h"

namespace tenun {

/// A block of memory on a device, shared by all tensors that view it.
struct Storage {
  std::byte* data = nullptr;
  size_t bytes = 0;
  Device device;
  uint64_t version = 0;
  std::function<void()> deleter;  ///< empty: the memory goes back to the caching allocator

  Storage(size_t n, Device d);
  Storage(void* external, size_t n, Device d, std::function<void()> del);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
};

class Tensor {
 public:
  Tensor() = default;                                              ///< undefined: "no tensor"
  Tensor(const Shape& shape, DType dtype, Device device = cpu());  ///< uninitialised memory

  [[nodiscard]] static Tensor zeros(const Shape& shape, DType dtype = DType::f32,
                                    Device device = cpu());
  [[nodiscard]] static Tensor full(const Shape& shape, double value, DType dtype = DType::f32,
                                   Device device = cpu());
  [[nodiscard]] static Tensor scalar(double value, DType dtype = DType::f32, Device device = cpu());
  [[nodiscard]] static Tensor arange(int64_t n, DType dtype = DType::i64);
  /// Copies the values; their number must be the product of the shape.
  template <class T>
  [[nodiscard]] static Tensor from(std::span<const T> values, const Shape& shape) {
    Tensor t(shape, dtype_of<T>);
    t.check_count(static_cast<int64_t>(values.size()));
    if (!values.empty()) std::memcpy(t.raw(), values.data(), values.size_bytes());
    return t;
  }
  template <class T>
  [[nodiscard]] static Tensor from(std::initializer_list<T> values, const Shape& shape) {
    return from(std::span<const T>(values.begin(), values.size()), shape);
  }
  template <class T>
  [[nodiscard]] static Tensor from(const std::vector<T>& values, const Shape& shape) {
    return from(std::span<const T>(values), shape);
  }
  /// A view of the caller's memory, which must live until `deleter` (may be empty) is called.
  [[nodiscard]] static Tensor wrap(void* data, const Shape& shape, DType dtype,
                                   std::function<void()> deleter = {});

  [[nodiscard]] bool defined() const { return storage_ != nullptr; }
  [[nodiscard]] const Layout& layout() const { return layout_; }
  [[nodiscard]] const Shape& shape() const { return layout_.shape; }
  [[nodiscard]] const Shape& strides() const { return layout_.strides; }
  [[nodiscard]] int rank() const { return layout_.rank(); }
  [[nodiscard]] int64_t dim(int axis) const { return shape()[normalize_axis(axis, rank(), "dim")]; }
  [[nodiscard]] int64_t numel() const { return numel_; }
  [[nodiscard]] size_t nbytes() const { return static_cast<size_t>(numel_ * size_of(dtype_)); }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] Device device() const { return storage_ ? storage_->device : cpu(); }
  [[nodiscard]] bool contiguous_layout() const { return layout_.contiguous(); }

  // Views: they share the storage.
  [[nodiscard]] Tensor view(
      const Shape& shape) const;  ///< one size may be -1; ShapeError if a copy would be needed
  [[nodiscard]] Tensor reshape(
      const Shape& shape) const;  ///< a view, or a copy where a view is impossible
  [[nodiscard]] Tensor permute(const Dims& axes) const;
  [[nodiscard]] Tensor transpose(int a, int b) const;
  [[nodiscard]] Tensor slice(int axis, int64_t from, int64_t to, int64_t step = 1) const;
  [[nodiscard]] Tensor select(int axis,
                              int64_t index) const;  ///< slice of size 1 with the axis removed
  [[nodiscard]] Tensor expand(const Shape& shape) const;
  [[nodiscard]] Tensor unsqueeze(int axis) const;
  [[nodiscard]] Tensor squeeze(int axis) const;
  /// Any layout inside the storage, negative strides included; ShapeError if it leaves it.
  [[nodiscard]] Tensor with_layout(const Layout& layout) const;

  [[nodiscard]] Tensor contiguous() const;  ///< itself if it is already so
  [[nodiscard]] Tensor clone() const;       ///< a contiguous copy
  [[nodiscard]] Tensor to(DType dtype) const;
  [[nodiscard]] Tensor to(Device device) const;

  // Data. The pointer is to the first element of this view. DTypeError for another dtype,
  // DeviceError on the CPU's side of a tensor that is elsewhere.
  template <class T>
  [[nodiscard]] const T* data() const {
    check_access(dtype_of<T>);
    return reinterpret_cast<const T*>(storage_->data) + layout_.offset;
  }
  template <class T>
  [[nodiscard]] T* mutable_data() {
    check_access(dtype_of<T>);
    ++storage_->version;
    return reinterpret_cast<T*>(storage_->data) + layout_.offset;
  }
  [[nodiscard]] const std::byte* raw() const {
    check_reachable();
    return storage_->data + layout_.offset * size_of(dtype_);
  }
  [[nodiscard]] std::byte* raw() {
    check_reachable();
    ++storage_->version;
    return storage_->data + layout_.offset * size_of(dtype_);
  }
  /// The elements of a contiguous tensor.
  template <class T>
  [[nodiscard]] std::span<const T> span() const {
    check_contiguous("span");
    return {data<T>(), static_cast<size_t>(numel_)};
  }
  /// A copy of the elements, in row-major order, whatever the strides.
  template <class T>
  [[nodiscard]] std::vector<T> values() const {
    const Tensor c = to(cpu()).to(dtype_of<T>).contiguous();
    return {c.data<T>(), c.data<T>() + numel_};
  }
  [[nodiscard]] double item() const;  ///< the value of a tensor with one element

  // In place.
  Tensor& fill_(double value);
  Tensor& copy_(const Tensor& from);  ///< converts; `from` is broadcast to this shape
  Tensor& add_(const Tensor& from);   ///< equal shapes and dtypes
  Tensor& draw_(const Draws& draws);  ///< random numbers; contiguous floating tensors

  [[nodiscard]] bool all_finite() const;
  [[nodiscard]] bool unique() const {
    return storage_.use_count() == 1;
  }  ///< may its memory be reused?
  [[nodiscard]] bool shares_storage(const Tensor& o) const {
    return storage_ && storage_ == o.storage_;
  }
  [[nodiscard]] uint64_t version() const { return storage_ ? storage_->version : 0; }
  [[nodiscard]] std::string str(int edge = 3) const;  ///< values, abbreviated, with shape and dtype
  [[nodiscard]] std::string describe() const;         ///< "f32[2, 3]" for messages

 private:
  [[nodiscard]] Tensor viewed(const Layout& layout) const;
  void check_defined(const char* op) const;
  void check_access(DType want) const;
  void check_reachable() const {
    if (storage_ && storage_->device.type != DeviceType::cpu && detail::device_call == nullptr)
        [[unlikely]]
      unreachable();
  }
  [[noreturn]] void unreachable() const;
  void check_contiguous(const char* op) const;
  void check_count(int64_t n) const;
  [[nodiscard]] Span span_of() const { return {storage_->data, dtype_, &layout_}; }

  std::shared_ptr<Storage> storage_;
  Layout layout_;
  int64_t numel_ = 0;
  DType dtype_ = DType::f32;
};

/// A new tensor with the shape, dtype and device of `x`, uninitialised.
[[nodiscard]] inline Tensor empty_like(const Tensor& x) {
  return {x.shape(), x.dtype(), x.device()};
}
[[nodiscard]] inline Tensor zeros_like(const Tensor& x) {
  return Tensor::zeros(x.shape(), x.dtype(), x.device());
}

}  // namespace tenun
