// Profile and Section: self times, nesting, threads.
#include "tenun/core/profile.h"

#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "tenun/core/kernel.h"

using namespace tenun;

namespace {

void wait_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }
void inner_work(int ms) {
  const Section section("inner");
  wait_ms(ms);
}
int doubled(int x) { return 2 * x; }
constinit Kernel<int(int)> double_slot{"double", doubled};

}  // namespace

TEST_SUITE("core_profile") {
  TEST_CASE("self times: an inner section is taken off the outer one") {
    Profile profile;
    {
      const Section outer("outer");
      inner_work(40);
      inner_work(40);
    }
    REQUIRE(profile.entries().size() == 2);
    const auto &inner = profile.entries()[0], &outer = profile.entries()[1];
    CHECK(inner.name == "inner");
    CHECK(inner.calls == 2);
    CHECK(inner.ms >= 80);
    CHECK(outer.name == "outer");
    CHECK(outer.calls == 1);
    CHECK(outer.ms < 40);
    CHECK(outer.total_ms >= 80);
    CHECK(std::abs(outer.total_ms - outer.ms - inner.total_ms) < 1e-6);
    CHECK(std::abs(profile.total_ms() - inner.ms - outer.ms) < 1e-9);
    profile.clear();
    CHECK(profile.entries().empty());
  }

  TEST_CASE("a section inside one of the same name counts its time once") {
    Profile profile;
    {
      const Section outer("inner");
      inner_work(30);
    }
    REQUIRE(profile.entries().size() == 1);
    CHECK(profile.entries()[0].calls == 2);
    CHECK(profile.entries()[0].total_ms < 55);
    CHECK(std::abs(profile.entries()[0].total_ms - profile.entries()[0].ms) < 1e-6);
  }

  TEST_CASE("kernel slots are sections, the inner profile gets them, other threads do not count") {
    CHECK(double_slot(cpu(), 3) == 6);  // without a profile
    Profile outer;
    {
      Profile inner;
      CHECK(double_slot(cpu(), 4) == 8);
      std::thread([] { inner_work(0); }).join();
      REQUIRE(inner.entries().size() == 1);
      CHECK(inner.entries()[0].name == "double");
    }
    CHECK(outer.entries().empty());
    CHECK(double_slot(cpu(), 5) == 10);
    CHECK(outer.entries().size() == 1);
  }
}
