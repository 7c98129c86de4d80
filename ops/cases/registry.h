// The table of ops: for every op its public name (the name of `tenun op` and of the golden files),
// arguments, attributes, a call, a naive reference in double, and cases. The table drives the tests
// (forward against the reference, gradient check, strided inputs, bf16, number of threads, CPU
// against CUDA), `tenun gradcheck`, `tenun check`, `tenun op`, `tenun ops` and the benchmark. An op
// without cases or reference fails the suite. One file for each family; its function stands in the
// list of ops/meson.build.
//
//   void add_softmax_ops(OpTable& table) {
//     table.add({.name = "softmax", .summary = "softmax along one axis",
//                .inputs = {{"x"}}, .attrs = {{"dim", "-1", "the axis"}}, .outputs = {"y"},
//                .call = [](const OpArgs& a) { return one(softmax(a["x"], a.integer("dim", -1)));
//                }, .reference = [](const OpArgs& a) { ... return list of f64 tensors ... }, .cases
//                = {{"last", {{4, 7}}}, {"first", {{5, 3}}, {{"dim", 0}}}}});
//   }
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tenun/autograd/var.h"

namespace tenun {

using AttrValue = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;
/// Attributes by name. Nested objects are flattened: {"quant": {"qk": "int8"}} is "quant.qk".
class Attrs {
 public:
  struct Item {  // lets {"dim", -1} and {"mode", "soft"} be written plainly
    std::string name;
    AttrValue value;
    Item(std::string n, bool v) : name(std::move(n)), value(v) {}
    Item(std::string n, int v) : name(std::move(n)), value(int64_t{v}) {}
    Item(std::string n, int64_t v) : name(std::move(n)), value(v) {}
    Item(std::string n, double v) : name(std::move(n)), value(v) {}
    Item(std::string n, const char* v) : name(std::move(n)), value(std::string(v)) {}
    Item(std::string n, std::string v) : name(std::move(n)), value(std::move(v)) {}
    Item(std::string n, std::vector<int64_t> v) : name(std::move(n)), value(std::move(v)) {}
    Item(std::string n, std::vector<double> v) : name(std::move(n)), value(std::move(v)) {}
    Item(std::string n, std::vector<std::string> v) : name(std::move(n)), value(std::move(v)) {}
  };
  Attrs() = default;
  Attrs(std::initializer_list<Item> items) {
    for (const Item& i : items) values_.insert_or_assign(i.name, i.value);
  }
  void set(const std::string& name, AttrValue v) { values_.insert_or_assign(name, std::move(v)); }
  [[nodiscard]] bool has(const std::string& name) const { return values_.contains(name); }
  // Typed access; ValueError names the attribute and what was expected. Without a default the
  // attribute must be there.
  [[nodiscard]] int64_t integer(const std::string& name,
                                std::optional<int64_t> otherwise = {}) const;
  [[nodiscard]] double real(const std::string& name, std::optional<double> otherwise = {}) const;
  [[nodiscard]] bool flag(const std::string& name, std::optional<bool> otherwise = {}) const;
  [[nodiscard]] std::string text(const std::string& name,
                                 std::optional<std::string> otherwise = {}) const;
  [[nodiscard]] std::vector<int64_t> integers(
      const std::string& name, std::optional<std::vector<int64_t>> otherwise = {}) const;
  [[nodiscard]] std::vector<double> reals(const std::string& name,
                                          std::optional<std::vector<double>> otherwise = {}) const;
  [[nodiscard]] const std::map<std::string, AttrValue>& all() const { return values_; }
  [[nodiscard]] std::string str() const;  ///< {dim: 0, keepdim: true}

 private:
  const AttrValue* find(const std::string& name, bool required) const;
  std::map<std::string, AttrValue> values_;
};

/// Named inputs and attributes of one call.
struct OpArgs {
  std::vector<std::string> names;
  std::vector<Var> values;  ///< undefined where an optional input is not given
  Attrs attrs;
  [[nodiscard]] const Var& operator[](const std::string& name) const;
  [[nodiscard]] const Tensor& tensor(const std::string& name) const {
    return (*this)[name].value();
  }
  /// Inputs whose names start with `prefix`, in order (variadic inputs x0, x1, ...; parameters).
  [[nodiscard]] std::vector<Var> starting_with(const std::string& prefix) const;
};

struct InputDef {
  std::string name;  ///< "x"; "x*": any number, named x0, x1, ...; "param.*": parameters of a
                     ///< module by name
  bool optional = false;
  bool integer = false;   ///< indices or 0/1 flags (I64 in golden files)
  bool constant = false;  ///< floating, but the op gives it no gradient
};
struct AttrDef {
  std::string name, otherwise, help;  ///< `otherwise`: the default as text; empty: required
};

/// How a case fills an input.
enum class Fill {
  normal,    ///< N(0, 1)
  positive,  ///< uniform in [0.5, 2]
  unit,      ///< uniform in [0.05, 0.95]
  off_zero,  ///< normal, pushed 0.2 away from 0: for kinks there
  distinct,  ///< a shuffled grid with gaps of 0.25 or more: for max, top-k, sort
  index,     ///< integers in [0, limit)
  flags,     ///< 0 or 1
};
struct CaseInput {
  Shape shape;
  Fill fill = Fill::normal;
  int64_t limit = 0;  ///< for Fill::index
  bool present = true;
  CaseInput(std::initializer_list<int64_t> s, Fill f = Fill::normal, int64_t l = 0)
      : shape(s), fill(f), limit(l) {}
  static CaseInput none() {
    CaseInput c({});
    c.present = false;
    return c;
  }
};
struct OpCase {
  std::string name;
  std::vector<CaseInput> inputs;  ///< in the order of the definition; missing at the end: not given
  Attrs attrs{};
  double scale = 1;  ///< multiplies the floating inputs
  bool smooth =
      true;  ///< false: skip the finite differences here (a straight-through or piecewise op)
  double rtol32 =
      2e-5;  ///< f32 forward against the reference, with atol32 = rtol32 * largest value
};

struct OpDef {
  std::string name, summary;
  std::vector<InputDef> inputs;
  std::vector<AttrDef> attrs{};
  std::vector<std::string> outputs;
  std::function<std::vector<Var>(const OpArgs&)> call;
  /// The same in plain loops over f64 values; as many tensors as outputs (undefined: not checked).
  std::function<std::vector<Tensor>(const OpArgs&)> reference;
  std::vector<OpCase> cases;
  bool differentiable = true;
  /// For outputs whose number depends on the arguments; else `outputs`.
  std::function<std::vector<std::string>(const OpArgs&)> output_names{};
  /// Replaces the finite differences where an op defines its gradient by a surrogate
  /// (straight-through): the function whose true derivative it is.
  std::function<std::vector<Var>(const OpArgs&)> surrogate{};
};

class OpTable {
 public:
  void add(OpDef def);
  [[nodiscard]] const OpDef* find(const std::string& name) const;
  [[nodiscard]] const std::vector<OpDef>& all() const { return ops_; }

 private:
  std::vector<OpDef> ops_;
};

/// Every op of ops/ (made on first use).
[[nodiscard]] const OpTable& op_table();

/// The inputs of a case, deterministic, in `dtype` (the same numbers in every dtype, up to
/// rounding).
[[nodiscard]] OpArgs make_case(const OpDef& def, const OpCase& c, DType dtype);
/// Throws ValueError for a missing or unknown input or attribute.
void check_args(const OpDef& def, const OpArgs& args);

[[nodiscard]] inline std::vector<Var> one(Var v) { return {std::move(v)}; }

// For references: a tensor as plain doubles in row-major order, and back.
[[nodiscard]] std::vector<double> doubles(const Tensor& t);
[[nodiscard]] Tensor f64_tensor(const std::vector<double>& v, const Shape& shape);
/// Calls f(index, flat) for every multi-index of the shape.
void for_each_index(const Shape& shape,
                    const std::function<void(const Shape& index, int64_t flat)>& f);
/// Row-major position of a multi-index.
[[nodiscard]] int64_t flat_index(const Shape& index, const Shape& shape);

}  // namespace tenun
