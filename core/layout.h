// Shape and Layout: sizes, strides (in elements) and offset of a tensor of rank 0 to 6. Both are
// small values without heap memory, so that a layout can be a kernel argument.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>

#include "tenun/core/error.h"

namespace tenun {

inline constexpr int kMaxRank = 6;

/// A short list of int64: sizes, strides, or axes.
class Shape {
 public:
  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<int64_t> v) : Shape(v.begin(), v.end()) {}
  template <class It>
  constexpr Shape(It first, It last) {
    for (; first != last; ++first) push_back(static_cast<int64_t>(*first));
  }
  static constexpr Shape filled(int n, int64_t value) {
    Shape s;
    for (int i = 0; i < n; ++i) s.push_back(value);
    return s;
  }
  [[nodiscard]] constexpr int size() const { return n_; }
  [[nodiscard]] constexpr bool empty() const { return n_ == 0; }
  constexpr int64_t& operator[](int i) { return v_[i]; }
  constexpr int64_t operator[](int i) const { return v_[i]; }
  [[nodiscard]] constexpr const int64_t* begin() const { return v_; }
  [[nodiscard]] constexpr const int64_t* end() const { return v_ + n_; }
  [[nodiscard]] constexpr int64_t* begin() { return v_; }
  [[nodiscard]] constexpr int64_t* end() { return v_ + n_; }
  [[nodiscard]] constexpr int64_t back() const { return v_[n_ - 1]; }
  constexpr void push_back(int64_t x) {
    if (n_ == kMaxRank) too_long();
    v_[n_++] = x;
  }
  constexpr void insert(int at, int64_t x) {
    push_back(x);
    for (int i = n_ - 1; i > at; --i) v_[i] = v_[i - 1];
    v_[at] = x;
  }
  constexpr void erase(int at) {
    for (int i = at; i + 1 < n_; ++i) v_[i] = v_[i + 1];
    --n_;
  }
  constexpr bool operator==(const Shape& o) const {
    if (n_ != o.n_) return false;
    for (int i = 0; i < n_; ++i)
      if (v_[i] != o.v_[i]) return false;
    return true;
  }
  /// Product of the entries; ShapeError where it leaves int64.
  [[nodiscard]] int64_t numel() const;
  [[nodiscard]] std::string str() const;  ///< "[2, 3]"

 private:
  [[noreturn]] static void too_long();
  int64_t v_[kMaxRank] = {};
  int n_ = 0;
};
using Dims = Shape;  ///< the same type where the entries are axes

/// -1 -> rank-1 and so on; ValueError outside [-rank, rank).
[[nodiscard]] int normalize_axis(int axis, int rank, const char* op);
/// The numpy broadcast of two shapes; ShapeError names the op.
[[nodiscard]] Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op);

struct Layout {
  Shape shape, strides;
  int64_t offset = 0;

  Layout() = default;
  explicit Layout(const Shape& s);  ///< contiguous, row-major
  [[nodiscard]] bool contiguous() const;
  [[nodiscard]] int rank() const { return shape.size(); }
  [[nodiscard]] Layout permute(const Dims& axes) const;
  [[nodiscard]] Layout slice(int axis, int64_t from, int64_t to, int64_t step) const;
  [[nodiscard]] Layout expand(const Shape& to) const;  ///< stride 0 along broadcast axes; -1
                                                       ///< keeps a size
  /// A view with other sizes if that is possible without a copy.
  [[nodiscard]] bool view(const Shape& to, Layout& out) const;
  /// Elements between the first and one past the last that this layout can reach.
  [[nodiscard]] int64_t extent() const;
};

}  // namespace tenun
