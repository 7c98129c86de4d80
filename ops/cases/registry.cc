#include "tenun/ops/cases/registry.h"

#include <algorithm>
#include <cmath>

#include "tenun/core/check.h"
#include "tenun/core/random.h"

namespace tenun {

const AttrValue* Attrs::find(const std::string& name, bool required) const {
  const auto it = values_.find(name);
  if (it != values_.end()) return &it->second;
  check(!required, "attribute", "'{}' is missing", name);
  return nullptr;
}
int64_t Attrs::integer(const std::string& name, std::optional<int64_t> otherwise) const {
  const AttrValue* v = find(name, !otherwise);
  if (v == nullptr) return *otherwise;
  if (const auto* i = std::get_if<int64_t>(v)) return *i;
  if (const auto* d = std::get_if<double>(v);
      d != nullptr && *d == std::floor(*d) && std::abs(*d) < 9e18)
    return static_cast<int64_t>(*d);
  fail("attribute", "'{}' must be an integer", name);
}
double Attrs::real(const std::string& name, std::optional<double> otherwise) const {
  const AttrValue* v = find(name, !otherwise);
  if (v == nullptr) return *otherwise;
  if (const auto* d = std::get_if<double>(v)) return *d;
  if (const auto* i = std::get_if<int64_t>(v)) return static_cast<double>(*i);
  fail("attribute", "'{}' must be a number", name);
}
bool Attrs::flag(const std::string& name, std::optional<bool> otherwise) const {
  const AttrValue* v = find(name, !otherwise);
  if (v == nullptr) return *otherwise;
  if (const auto* b = std::get_if<bool>(v)) return *b;
  if (const auto* i = std::get_if<int64_t>(v); i != nullptr && (*i == 0 || *i == 1)) return *i == 1;
  fail("attribute", "'{}' must be true or false", name);
}
std::string Attrs::text(const std::string& name, std::optional<std::string> otherwise) const {
  const AttrValue* v = find(name, !otherwise);
  if (v == nullptr) return *otherwise;
  if (const auto* s = std::get_if<std::string>(v)) return *s;
  fail("attribute", "'{}' must be a string", name);
}
std::vector<int64_t> Attrs::integers(const std::string& name,
                                     std::optional<std::vector<int64_t>> otherwise) const {
  const AttrValue* v = find(name, !otherwise);
  if (v == nullptr) return *otherwise;
  if (const auto* l = std::get_if<std::vector<int64_t>>(v)) return *l;
  if (const auto* i = std::get_if<int64_t>(v)) return {*i};
  if (const auto* l = std::get_if<std::vector<double>>(v); l != nullptr && l->empty()) return {};
  fail("attribute", "'{}' must be a list of integers", name);
}
std::vector<double> Attrs::reals(const std::string& name,
                                 std::optional<std::vector<double>> otherwise) const {
  const AttrValue* v = find(name, !otherwise);
  if (v == nullptr) return *otherwise;
  if (const auto* l = std::get_if<std::vector<double>>(v)) return *l;
  if (const auto* l = std::get_if<std::vector<int64_t>>(v)) return {l->begin(), l->end()};
  if (const auto* d = std::get_if<double>(v)) return {*d};
  fail("attribute", "'{}' must be a list of numbers", name);
}
std::string Attrs::str() const {
  std::string s;
  for (const auto& [name, value] : values_) {
    s += s.empty() ? "" : ", ";
    s += name + ": ";
    std::visit(
        [&]<class T>(const T& v) {
          if constexpr (requires { v.begin()->size(); }) {
            for (const auto& x : v) s += x + " ";
          } else if constexpr (std::is_same_v<T, std::string>) {
            s += v;
          } else if constexpr (requires { v.begin(); }) {
            s += "[";
            for (size_t i = 0; i < v.size(); ++i)
              s += fmt::format("{}{}", i == 0 ? "" : ", ", v[i]);
            s += "]";
          } else {
            s += fmt::format("{}", v);
          }
        },
        value);
  }
  return s;
}

const Var& OpArgs::operator[](const std::string& name) const {
  static const Var none;
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return values[i];
  return none;
}
std::vector<Var> OpArgs::starting_with(const std::string& prefix) const {
  std::vector<Var> out;
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i].starts_with(prefix)) out.push_back(values[i]);
  return out;
}

void OpTable::add(OpDef def) {
  check(find(def.name) == nullptr, "op table", "op '{}' is there twice", def.name);
  ops_.push_back(std::move(def));
}
const OpDef* OpTable::find(const std::string& name) const {
  for (const OpDef& d : ops_)
    if (d.name == name) return &d;
  return nullptr;
}

OpArgs make_case(const OpDef& def, const OpCase& c, DType dtype) {
  OpArgs args;
  args.attrs = c.attrs;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const CaseInput& in = c.inputs[i];
    const InputDef& d = def.inputs[std::min(i, def.inputs.size() - 1)];
    const bool variadic = d.name.ends_with("*");
    args.names.push_back(variadic ? d.name.substr(0, d.name.size() - 1) +
                                        std::to_string(i - def.inputs.size() + 1)
                                  : d.name);
    if (!in.present) {
      args.values.emplace_back();
      continue;
    }
    // All numbers are multiples of 2^-12: exact in f32, so every dtype starts from the same ones.
    const RandomKey key =
        RandomKey::derive(7, Purpose::test, i, static_cast<uint64_t>(in.shape.numel()));
    const int64_t n = in.shape.numel();
    const auto order = permutation(n, key);
    std::vector<double> v(static_cast<size_t>(n));
    for (int64_t j = 0; j < n; ++j) {
      const auto u = static_cast<uint64_t>(j);
      double x = 0;
      switch (in.fill) {
        case Fill::normal: x = key.normal(u); break;
        case Fill::positive: x = 0.5 + 1.5 * key.uniform(u); break;
        case Fill::unit: x = 0.05 + 0.9 * key.uniform(u); break;
        case Fill::off_zero: x = key.normal(u), x += x < 0 ? -0.2 : 0.2; break;
        case Fill::distinct:
          x = 0.25 * static_cast<double>(order[static_cast<size_t>(j)] - n / 2) +
              0.05 * key.uniform(u);
          break;
        case Fill::index:
          x = static_cast<double>(
              key.below(u, static_cast<uint64_t>(std::max<int64_t>(in.limit, 1))));
          break;
        case Fill::flags: x = static_cast<double>(key.below(u, 2)); break;
      }
      const bool whole = in.fill == Fill::index || in.fill == Fill::flags;
      v[static_cast<size_t>(j)] = whole ? x : std::round(x * c.scale * 4096) / 4096;
    }
    const bool whole = in.fill == Fill::index || in.fill == Fill::flags;
    args.values.emplace_back(f64_tensor(v, in.shape).to(whole ? DType::i64 : dtype));
  }
  return args;
}

void check_args(const OpDef& def, const OpArgs& args) {
  const auto matches = [](const std::string& pattern, const std::string& name) {
    return pattern.ends_with("*") ? name.starts_with(pattern.substr(0, pattern.size() - 1))
                                  : pattern == name;
  };
  for (size_t i = 0; i < args.names.size(); ++i) {
    const bool known = std::any_of(def.inputs.begin(), def.inputs.end(), [&](const InputDef& d) {
      return matches(d.name, args.names[i]);
    });
    check(known, def.name, "has no input '{}'; see `tenun ops {}`", args.names[i], def.name);
  }
  for (const InputDef& d : def.inputs) {
    bool given = d.optional;
    for (size_t i = 0; i < args.names.size(); ++i)
      given = given || (matches(d.name, args.names[i]) && args.values[i].defined());
    check(given, def.name, "input '{}' is missing", d.name);
  }
  for (const auto& [name, value] : args.attrs.all()) {
    const bool known = std::any_of(def.attrs.begin(), def.attrs.end(),
                                   [&, &n = name](const AttrDef& d) { return d.name == n; });
    check(known, def.name, "has no attribute '{}'; see `tenun ops {}`", name, def.name);
  }
  for (const AttrDef& d : def.attrs)
    check(!d.otherwise.empty() || args.attrs.has(d.name), def.name,
          "attribute '{}' is missing ({})", d.name, d.help);
}

std::vector<double> doubles(const Tensor& t) {
  return t.defined() ? t.values<double>() : std::vector<double>();
}
Tensor f64_tensor(const std::vector<double>& v, const Shape& shape) {
  return Tensor::from(v, shape);
}

void for_each_index(const Shape& shape, const std::function<void(const Shape&, int64_t)>& f) {
  Shape index = Shape::filled(shape.size(), 0);
  const int64_t n = shape.numel();
  for (int64_t i = 0; i < n; ++i) {
    f(index, i);
    for (int d = shape.size() - 1; d >= 0; --d) {
      if (++index[d] < shape[d]) break;
      index[d] = 0;
    }
  }
}
int64_t flat_index(const Shape& index, const Shape& shape) {
  int64_t at = 0;
  for (int d = 0; d < shape.size(); ++d) at = at * shape[d] + index[d];
  return at;
}

}  // namespace tenun
