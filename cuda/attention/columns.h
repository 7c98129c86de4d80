// How the dk, dv pass shares out its work. A column is a block of keys with the queries that chose
// it; a block of threads takes 64 keys of it (a tile) and walks over its queries in pieces of 64.
// Two things would leave the device idle at the end: a column that every row chose and that starts
// last, and fewer tiles than there is room for. So
//  - a column of more than `limit` pieces is cut into parts of equal length. Part 0 writes to
//    dk and dv, the others to a workspace, from which they are added in order: no atomics;
//  - the parts of all heads start in order of falling length, in classes of factor two; inside a
//    class by number, so that neighbours read the queries of one head while it is in the cache.
// limit = max(kLeastPieces, all pieces / kMostParts), whatever the device is: equal bits in every
// run of the same call (the lists of all heads count). With lists the device itself counts and
// plans (one block of threads), the host only knows bounds. A column of l pieces makes at most
// (l - 1) / limit parts more, so all together at most kMostParts more: the workspace has at most
// kMostParts * 64 * d * 2 floats (64 MiB at d = 128), and no more than `room` of the lists makes
// possible.
#pragma once
#include <optional>

#include "tenun/cuda/attention/tensor_tile.h"
#include "tenun/cuda/scratch.h"

namespace tenun::TENUN_BACKEND::attention {

/// About four parts for each of the 264 blocks of threads that 132 multiprocessors hold at d = 128.
inline constexpr int kMostParts = 1024;
/// By arithmetic, not yet by measurement: beside its pieces a part costs as much as about 3 of
/// them, for K and V and for its sums, which are written and read.
inline constexpr int kLeastPieces = 16;

/// Number `part` of `parts` of a tile. Its pieces: [n part / parts, n (part + 1) / parts) of n.
struct alignas(16) ColumnPart {
  int tile, part, parts;  ///< parts 0: nothing to do
  int slot;               ///< in the workspace; -1 for part 0
};
/// The parts of a tile behind its part 0, from a slot on; 0: none.
struct alignas(8) ColumnSplit {
  int tile, more;
};

/// What the kernels are told.
struct ColumnParts {
  int tiles = 0;  ///< of a head
  int each = 1;   ///< without a plan: parts of every tile
  const ColumnPart* plan = nullptr;
  const ColumnSplit* splits = nullptr;           ///< for every slot; set at a tile's first one
  float *more_dk = nullptr, *more_dv = nullptr;  ///< (slots, 64, d), or null

  __device__ __forceinline__ ColumnPart part(int number) const {
    if (plan != nullptr) return plan[number];
    const int tile = number / each, part = number - tile * each;
    return {tile, part, each, part == 0 ? -1 : tile * (each - 1) + part - 1};
  }
};

/// The plan of one call and its workspace, on the device while this lives.
class ColumnWork {
 public:
  explicit ColumnWork(const FlashBackward& a);
  [[nodiscard]] const ColumnParts& parts() const { return parts_; }
  /// Upper bounds: parts, which is blocks of threads to launch, and slots of the workspace.
  [[nodiscard]] int room() const { return room_; }
  [[nodiscard]] int slots() const { return slots_; }
  /// dk, dv += the parts in the workspace.
  void add_up(const FlashBackward& a) const;

 private:
  ColumnParts parts_;
  int room_ = 0, slots_ = 0;
  std::optional<Scratch<ColumnPart>> plan_;
  std::optional<Scratch<ColumnSplit>> splits_;
  std::optional<Scratch<float>> more_dk_, more_dv_;
};

}  // namespace tenun::TENUN_BACKEND::attention
