// A restricted unpickler (protocols 2 to 5): Python's pickles as a tree of plain values. Nothing
// is ever called or imported: an object of a class that the hooks do not know becomes an opaque
// value that keeps its class name, arguments and state.
//
// Containers that the pickle shares are shared here, too (they may even contain themselves), so
// values live in a PicklePool and refer to each other by plain pointers. Memory is bounded by the
// size of the pickle; broken or unknown opcodes are an IoError with their position.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tenun/core/tensor.h"

namespace tenun {

/// A tensor inside a file that is mapped: its storage and how to read it. Copied on demand.
struct TensorSource {
  DType dtype = DType::f32;
  std::span<const std::byte> storage;
  Layout layout;
};

struct PickleValue {
  enum class Kind : uint8_t {
    none,
    boolean,
    integer,
    real,
    string,
    bytes,
    list,
    tuple,
    set,
    dict,
    tensor,
    opaque
  };
  Kind kind = Kind::none;
  int64_t integer = 0;  ///< boolean, integer
  double real = 0;
  std::string text;  ///< string, bytes; opaque: the name of the class ("argparse.Namespace")
  std::vector<PickleValue*> items;  ///< list, tuple, set; opaque: arguments
  std::vector<std::pair<PickleValue*, PickleValue*>>
      entries;                                 ///< dict; opaque: attributes, in order
  std::shared_ptr<const TensorSource> source;  ///< tensor

  [[nodiscard]] bool is(Kind k) const { return kind == k; }
  /// The entry of a dict, or the attribute of an opaque object; nullptr if it is not there.
  [[nodiscard]] const PickleValue* find(std::string_view key) const;
  [[nodiscard]] const PickleValue* find(int64_t key) const;
  /// A row-major copy on the CPU; IoError if this is not a tensor.
  [[nodiscard]] Tensor tensor() const;
};

using PicklePool = std::deque<PickleValue>;

/// What the unpickler is to make of references to the outside.
class PickleHooks {
 public:
  virtual ~PickleHooks() = default;
  /// A persistent id: fill `out`, or leave it opaque.
  virtual void persistent(const PickleValue& id, PickleValue& out) = 0;
  /// `name(*args)`: fill `fresh` and return it, return one of the arguments, or nullptr to leave
  /// the call alone.
  virtual PickleValue* reduce(std::string_view name, const PickleValue& args,
                              PickleValue& fresh) = 0;
};

/// Reads one pickle; returns its value, which lives in `pool`.
[[nodiscard]] const PickleValue& unpickle(std::string_view pickle, std::string_view where,
                                          PickleHooks& hooks, PicklePool& pool);

}  // namespace tenun
