// Elementwise work on many tensors in one launch (optimizers have hundreds of small parameters):
// each block of threads has one piece of one tensor. The table of pieces travels with the call.
//
//   struct Pair { float* y; const float* x; int64_t n; };        // an item: pointers and numbers
//   for_many("axpy", items, Axpy{2.0f});                          // f(item, i) for i < item.n
#pragma once
#include <span>
#include <vector>

#include "tenun/cuda/scratch.h"
#include "tenun/cuda/team.h"

namespace tenun::TENUN_BACKEND {

struct Piece {
  int64_t item, first, last;
};
constexpr int64_t kPiece = 1 << 14;  ///< elements: 64 for each thread of a block

template <class Item>
std::vector<Piece> cut(std::span<const Item> items) {
  std::vector<Piece> pieces;
  for (size_t k = 0; k < items.size(); ++k)
    for (int64_t at = 0; at < items[k].n; at += kPiece)
      pieces.push_back({static_cast<int64_t>(k), at, std::min(at + kPiece, items[k].n)});
  return pieces;
}

/// A copy of host memory on the device, for the duration of a call.
template <class V>
class Uploaded {
 public:
  explicit Uploaded(std::span<const V> values) : memory_(std::ssize(values)) {
    copy_raw(memory_.get(), values.data(), values.size_bytes(), Way::to_device);
  }
  [[nodiscard]] const V* get() const { return memory_.get(); }

 private:
  Scratch<V> memory_;
};

template <class Item, class F>
__global__ void __launch_bounds__(kThreads, 1)
    each_piece(const Item* items, const Piece* pieces, F f) {
  const Piece piece = pieces[blockIdx.x];
  const Item item = items[piece.item];
  for (int64_t i = piece.first + threadIdx.x; i < piece.last; i += blockDim.x) f(item, i);
}
/// One number for each piece: the sum of f(item, i), by a fixed tree.
template <class Item, class F>
__global__ void __launch_bounds__(kThreads, 1)
    sum_pieces(double* sums, const Item* items, const Piece* pieces, F f) {
  const Team<kBlockWarps> team;
  const Piece piece = pieces[blockIdx.x];
  const Item item = items[piece.item];
  double sum = 0;
  for (int64_t i = piece.first + threadIdx.x; i < piece.last; i += blockDim.x) sum += f(item, i);
  sum = team.sum(sum);
  if (team.first()) sums[blockIdx.x] = sum;
}

/// One block: a thread adds up what lies kThreads apart, the tree does the rest. (A template, so
/// that it may stand in a header.)
template <class Item>
__global__ void __launch_bounds__(kThreads, 1)
    add_sums(double* sum, const double* sums, int64_t count) {
  const Team<kBlockWarps> team;
  double total = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) total += sums[i];
  total = team.sum(total);
  if (team.first()) *sum = total;
}

template <class Item, class F>
void for_many(std::span<const Item> items, F f) {
  const std::vector<Piece> pieces = cut(items);
  if (pieces.empty()) return;
  const Uploaded<Item> device_items(items);
  const Uploaded<Piece> device_pieces{std::span<const Piece>(pieces)};
  launch(each_piece<Item, F>, dim3(static_cast<unsigned>(pieces.size())), kThreads, 0,
         device_items.get(), device_pieces.get(), f);
}
/// sum = all items, in the order of the pieces: the same bits in every run.
template <class Item, class F>
void sum_many(double* sum, std::span<const Item> items, F f) {
  const std::vector<Piece> pieces = cut(items);
  const Scratch<double> sums(std::ssize(pieces));
  if (!pieces.empty()) {
    const Uploaded<Item> device_items(items);
    const Uploaded<Piece> device_pieces{std::span<const Piece>(pieces)};
    launch(sum_pieces<Item, F>, dim3(static_cast<unsigned>(pieces.size())), kThreads, 0, sums.get(),
           device_items.get(), device_pieces.get(), f);
  }
  launch(add_sums<Item>, 1, kThreads, 0, sum, sums.get(), std::ssize(pieces));
}

}  // namespace tenun::TENUN_BACKEND
