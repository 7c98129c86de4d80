// Loops over several tensors of one (broadcast) shape: axes that are contiguous for all operands
// are merged, and the body gets one-dimensional runs with a stride for each operand.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>

#include "tenun/core/layout.h"

namespace tenun {

template <int N>
class StridedLoop {
 public:
  /// All layouts must have the shape of the first one.
  explicit StridedLoop(const std::array<const Layout*, N>& layouts) {
    const Shape& shape = layouts[0]->shape;
    numel_ = 1;
    for (int d = shape.size() - 1; d >= 0; --d) {
      numel_ *= shape[d];
      if (shape[d] == 1) continue;
      bool merge = rank_ > 0;
      for (int k = 0; k < N && merge; ++k)
        merge = layouts[static_cast<size_t>(k)]->strides[d] ==
                strides_[rank_ - 1][k] * sizes_[rank_ - 1];
      if (merge) {
        sizes_[rank_ - 1] *= shape[d];
        continue;
      }
      sizes_[rank_] = shape[d];
      for (int k = 0; k < N; ++k) strides_[rank_][k] = layouts[static_cast<size_t>(k)]->strides[d];
      ++rank_;
    }
    if (rank_ == 0) {
      sizes_[0] = 1;
      for (int k = 0; k < N; ++k) strides_[0][k] = 1;
      rank_ = 1;
    }
    for (int k = 0; k < N; ++k) base_[k] = layouts[static_cast<size_t>(k)]->offset;
  }

  [[nodiscard]] int64_t numel() const { return numel_; }
  // The merged axes, 0 being the innermost, for loops that run elsewhere.
  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int64_t size(int axis) const { return sizes_[axis]; }
  [[nodiscard]] int64_t stride(int axis, int operand) const { return strides_[axis][operand]; }
  [[nodiscard]] int64_t base(int operand) const { return base_[operand]; }
  /// One run with unit stride for every operand?
  [[nodiscard]] bool flat() const {
    if (rank_ != 1) return false;
    for (int k = 0; k < N; ++k)
      if (strides_[0][k] != 1) return false;
    return true;
  }

  /// Calls body(offsets[N], strides[N], first flat index, count) for the runs of [begin, end).
  template <class F>
  void run(int64_t begin, int64_t end, F&& body) const {
    if (begin >= end) return;
    int64_t index[kMaxRank] = {};
    int64_t rest = begin;
    for (int d = 0; d < rank_; ++d) {
      index[d] = rest % sizes_[d];
      rest /= sizes_[d];
    }
    for (int64_t at = begin; at < end;) {
      const int64_t n = std::min(sizes_[0] - index[0], end - at);
      int64_t off[N];
      for (int k = 0; k < N; ++k) {
        off[k] = base_[k];
        for (int d = 0; d < rank_; ++d) off[k] += index[d] * strides_[d][k];
      }
      body(static_cast<const int64_t*>(off), static_cast<const int64_t*>(strides_[0]), at, n);
      at += n;
      index[0] += n;
      for (int d = 0; d + 1 < rank_ && index[d] == sizes_[d]; ++d) {
        index[d] = 0;
        ++index[d + 1];
      }
    }
  }

 private:
  int rank_ = 0;  // axis 0 is the innermost here
  int64_t sizes_[kMaxRank] = {};
  int64_t strides_[kMaxRank][N] = {};
  int64_t base_[N] = {};
  int64_t numel_ = 0;
};

}  // namespace tenun
