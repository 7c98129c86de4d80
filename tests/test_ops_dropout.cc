// Dropout with a key for each sample; with one key for all, the table of ops checks it.
#include <doctest/doctest.h>

#include <vector>

#include "tenun/autograd/tape.h"
#include "tenun/ops/dropout.h"
#include "tenun/ops/shape.h"

using namespace tenun;

namespace {

Tensor ones(const Shape& shape) { return Tensor::full(shape, 1); }

}  // namespace

TEST_SUITE("ops_dropout") {
  TEST_CASE("a sample's mask follows from its key alone, whatever the batch") {
    const SampleKeys keys{{5}, {6}, {7}, {8}};
    const Tensor all = dropout(Var(ones({4, 3, 50})), 0.4, keys).value();
    for (int64_t i = 0; i < 4; ++i) {
      const RandomKey key = keys[static_cast<size_t>(i)];
      const auto got = all.select(0, i).contiguous().values<float>();
      for (size_t j = 0; j < got.size(); ++j)
        REQUIRE(got[j] == (key.uniform(j) < 0.4f ? 0.0f : static_cast<float>(1 / 0.6)));
      const Tensor alone = dropout(Var(ones({1, 3, 50})), 0.4, SampleKeys{key}).value();
      CHECK(alone.values<float>() == got);
    }
    const Tensor two = dropout(Var(ones({2, 3, 50})), 0.4, SampleKeys{keys[2], keys[3]}).value();
    CHECK(two.values<float>() == all.slice(0, 2, 4).contiguous().values<float>());
  }

  TEST_CASE("backward draws the same masks, for any strides") {
    const SampleKeys keys{{1}, {2}, {3}};
    const Var x = Var::parameter(ones({7, 3}));
    Tape tape;
    const Var y = dropout(Var(ones({3, 7})), 0.5, keys);
    Var turned = dropout(transpose(x, 0, 1), 0.5, keys);
    CHECK(turned.value().values<float>() == y.value().values<float>());
    tape.backward(turned, ones({3, 7}));
    CHECK(x.grad().transpose(0, 1).contiguous().values<float>() == y.value().values<float>());
  }

  TEST_CASE("a key for every sample, or an error") {
    const Var x(ones({3, 4}));
    CHECK_THROWS_AS((void)dropout(x, 0.5, SampleKeys{{1}, {2}}), ShapeError);
    CHECK_THROWS_AS((void)dropout(x, 0.5, SampleKeys{{1}}), ShapeError);
    CHECK_THROWS_AS((void)dropout(x, 0.0, SampleKeys{}), ShapeError);
    CHECK_THROWS_AS((void)dropout(x, 1.0, SampleKeys{{1}, {2}, {3}}), ValueError);
    CHECK(dropout(Var(ones({0, 4})), 0.5, SampleKeys{}).shape() == Shape{0, 4});
    const SampleKeys a = derive_keys({{1}, {2}}, Purpose::dropout, 3, 4);
    CHECK(a[1].key == RandomKey::derive(2, Purpose::dropout, 3, 4).key);
  }
}
