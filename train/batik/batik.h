// The built-in data set: twenty classes of Indonesian batik, drawn by code. A picture is a pure
// function of (seed, class, index), made of Philox numbers only, so it has the same bits on any
// number of threads; the same index at another size is the same picture, finer or coarser.
// docs/batik.md explains the motifs and how each is drawn.
//
//   Image cloth = draw_batik(batik_class("kawung"), 256, /*seed=*/0, /*index=*/7);
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "tenun/core/image.h"

namespace tenun {

/// The twenty names in sorted order: a class's number is its place in this list.
[[nodiscard]] const std::vector<std::string>& batik_class_names();
/// The number of a class; ValueError for a name that is not one of the twenty.
[[nodiscard]] int batik_class(std::string_view name);
/// The four classes of the quickstart: far apart in both colour and structure.
[[nodiscard]] const std::vector<int>& batik_quickstart_classes();

/// size x size pixels, 8 <= size <= 4096; ValueError for another size or an unknown class.
[[nodiscard]] Image draw_batik(int cls, int size, uint64_t seed, uint64_t index);

/// Rows of `per_class` pictures (indices 0, 1, ...), one row per class with its name to the left,
/// set in `columns` columns that are read downwards.
[[nodiscard]] Image batik_contact_sheet(std::span<const int> classes, int per_class, int size,
                                        uint64_t seed, int columns = 1);

}  // namespace tenun
