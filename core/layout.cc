#include "tenun/core/layout.h"

#include "tenun/core/check.h"

namespace tenun {

void Shape::too_long() { fail<ShapeError>("shape", "more than {} dimensions", kMaxRank); }

int64_t Shape::numel() const {
  int64_t n = 1;
  for (int64_t d : *this)
    if (__builtin_mul_overflow(n, d, &n))
      fail<ShapeError>("shape", "{} has too many elements", *this);
  return n;
}

std::string Shape::str() const {
  std::string s = "[";
  for (int i = 0; i < n_; ++i) s += fmt::format("{}{}", i == 0 ? "" : ", ", v_[i]);
  return s + "]";
}

int normalize_axis(int axis, int rank, const char* op) {
  check(axis >= -rank && axis < rank, op, "axis {} is outside a tensor of rank {}", axis, rank);
  return axis < 0 ? axis + rank : axis;
}

Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op) {
  const int n = std::max(a.size(), b.size());
  Shape out = Shape::filled(n, 1);
  for (int i = 0; i < n; ++i) {
    const int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    check<ShapeError>(x == y || x == 1 || y == 1, op, "cannot broadcast {} with {}", a, b);
    out[n - 1 - i] = x == 1 ? y : x;
  }
  return out;
}

Layout::Layout(const Shape& s) : shape(s), strides(Shape::filled(s.size(), 1)) {
  int64_t stride = 1;
  for (int i = s.size() - 1; i >= 0; --i) {
    check<ShapeError>(s[i] >= 0, "shape", "negative size in {}", s);
    strides[i] = stride;
    check<ShapeError>(!__builtin_mul_overflow(stride, std::max<int64_t>(s[i], 1), &stride), "shape",
                      "{} has too many elements", s);
  }
}

bool Layout::contiguous() const {
  for (const int64_t n : shape)
    if (n == 0) return true;
  int64_t stride = 1;
  for (int i = shape.size() - 1; i >= 0; --i) {
    if (shape[i] != 1 && strides[i] != stride) return false;
    stride *= shape[i];
  }
  return true;
}

Layout Layout::permute(const Dims& axes) const {
  check<ShapeError>(axes.size() == rank(), "permute", "{} axes given for a tensor of rank {}",
                    axes.size(), rank());
  Layout out;
  out.offset = offset;
  unsigned seen = 0;
  for (int64_t a : axes) {
    const int i = normalize_axis(static_cast<int>(a), rank(), "permute");
    check<ShapeError>((seen >> i & 1u) == 0, "permute", "axis {} twice in {}", i, axes);
    seen |= 1u << i;
    out.shape.push_back(shape[i]);
    out.strides.push_back(strides[i]);
  }
  return out;
}

Layout Layout::slice(int axis, int64_t from, int64_t to, int64_t step) const {
  const int a = normalize_axis(axis, rank(), "slice");
  check(step >= 1, "slice", "step must be at least 1, got {}", step);
  const int64_t n = shape[a];
  if (from < 0) from += n;
  if (to < 0) to += n;
  check(from >= 0 && from <= to && to <= n, "slice", "range [{}, {}) is outside axis {} of {}",
        from, to, a, shape);
  step = std::min(step, std::max<int64_t>(n, 1));  // more is the same, and would overflow below
  Layout out = *this;
  out.shape[a] = (to - from + step - 1) / step;
  out.strides[a] = strides[a] * step;
  if (out.shape.numel() > 0) out.offset += from * strides[a];  // else it may leave the storage
  return out;
}

Layout Layout::expand(const Shape& to) const {
  check<ShapeError>(to.size() >= rank(), "expand", "{} cannot be expanded to {}", shape, to);
  Layout out;
  out.offset = offset;
  const int extra = to.size() - rank();
  for (int i = 0; i < to.size(); ++i) {
    const int64_t have = i < extra ? 1 : shape[i - extra];
    const int64_t want = to[i] == -1 && i >= extra ? have : to[i];
    check<ShapeError>(want >= 0 && (have == want || have == 1), "expand",
                      "{} cannot be expanded to {}", shape, to);
    out.shape.push_back(want);
    out.strides.push_back(i < extra || (have == 1 && want != 1) ? 0 : strides[i - extra]);
  }
  return out;
}

bool Layout::view(const Shape& to, Layout& out) const {
  out = Layout(to);
  out.offset = offset;
  if (contiguous()) return true;
  // Walk both shapes in groups of equal product; inside a group the old strides must be regular.
  int i = 0, j = 0;
  while (i < rank() || j < to.size()) {
    int64_t a = i < rank() ? shape[i] : 1, b = j < to.size() ? to[j] : 1;
    const int i0 = i, j0 = j;
    i = std::min(i + 1, rank());
    j = std::min(j + 1, to.size());
    while (a != b) {
      if (a < b) {
        if (i >= rank()) return false;
        a *= shape[i++];
      } else {
        if (j >= to.size()) return false;
        b *= to[j++];
      }
    }
    int64_t stride = -1;  // of the innermost axis of the group that is not of size 1
    for (int k = i - 1; k >= i0; --k) {
      if (shape[k] == 1) continue;
      if (stride < 0)
        stride = strides[k];
      else if (strides[k] != stride)
        return false;
      stride = strides[k] * shape[k];
    }
    int64_t inner = 1;
    for (int k = i - 1; k >= i0; --k)
      if (shape[k] != 1) {
        inner = strides[k];
        break;
      }
    for (int k = j - 1; k >= j0; --k) {
      out.strides[k] = inner;
      inner *= to[k];
    }
  }
  return true;
}

int64_t Layout::extent() const {
  int64_t last = 0;
  for (int i = 0; i < rank(); ++i) {
    if (shape[i] == 0) return 0;
    last += (shape[i] - 1) * strides[i];
  }
  return last + 1;
}

}  // namespace tenun
