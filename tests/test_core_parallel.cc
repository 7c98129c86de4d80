// parallel_for: every index once, cut by sizes alone, exceptions carried to the caller.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tenun/core/error.h"
#include "tenun/core/parallel.h"

using namespace tenun;

namespace {

struct Threads {  // restores the default
  explicit Threads(int n) { set_num_threads(n); }
  ~Threads() { set_num_threads(0); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
};

struct Range {
  int64_t begin, end, grain;
};
using Pieces = std::set<std::pair<int64_t, int64_t>>;
Pieces pieces(int64_t begin, int64_t end, int64_t grain) {
  Pieces p;
  std::mutex m;
  parallel_for(begin, end, grain, [&](int64_t b, int64_t e) {
    const std::lock_guard lock(m);
    p.emplace(b, e);
  });
  return p;
}

}  // namespace

TEST_SUITE("core_parallel") {
  TEST_CASE("every index is covered once, in pieces that do not depend on the threads") {
    for (const auto& [begin, end, grain] :
         {Range{0, 100, 7}, Range{5, 6, 1}, Range{-3, 40, 10}, Range{0, 64, 64}, Range{0, 65, 64},
          Range{10, 1000, 1}}) {
      const Threads one(1);
      const Pieces want = pieces(begin, end, grain);
      int64_t at = begin;
      for (const auto& [b, e] : want) {
        CHECK(b == at);
        CHECK(e > b);
        CHECK(e - b <= grain);
        at = e;
      }
      CHECK(at == end);
      for (const int n : {2, 3, 8}) {
        const Threads more(n);
        CHECK(pieces(begin, end, grain) == want);
      }
    }
  }

  TEST_CASE("empty ranges call nothing") {
    CHECK(pieces(3, 3, 4).empty());
    CHECK(pieces(5, 3, 4).empty());
    parallel_tasks(0, [](int64_t) { FAIL("called"); });
  }

  TEST_CASE("several threads work at the same time") {
    const Threads two(2);
    std::atomic<int> inside{0};
    std::atomic<bool> met{false};
    // Each task waits for the other: with one thread this would never end, so it gives up.
    parallel_tasks(2, [&](int64_t) {
      ++inside;
      for (int i = 0; i < 20000 && !met; ++i) {
        if (inside == 2) met = true;
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    });
    CHECK(met);
  }

  TEST_CASE("the exception of a body reaches the caller with its type and text") {
    for (const int n : {1, 4}) {
      const Threads threads(n);
      CHECK_THROWS_WITH_AS(parallel_for(0, 100, 1,
                                        [](int64_t b, int64_t) {
                                          if (b == 57) throw ShapeError("at 57");
                                        }),
                           "at 57", ShapeError);
      CHECK_THROWS_AS(parallel_for(0, 3, 1, [](int64_t, int64_t) { throw std::bad_alloc(); }),
                      std::bad_alloc);
      std::atomic<int64_t> sum{0};  // and the next call is as good as new
      parallel_for(0, 100, 3, [&](int64_t b, int64_t e) { sum += e - b; });
      CHECK(sum == 100);
    }
  }

  TEST_CASE("nested calls run on the calling thread and cover their ranges") {
    const Threads threads(4);
    std::atomic<int64_t> sum{0};
    std::atomic<bool> moved{false};
    parallel_for(0, 8, 1, [&](int64_t, int64_t) {
      const auto me = std::this_thread::get_id();
      parallel_for(0, 50, 4, [&](int64_t b, int64_t e) {
        if (std::this_thread::get_id() != me) moved = true;
        sum += e - b;
      });
    });
    CHECK(sum == 400);
    CHECK_FALSE(moved);
    CHECK_THROWS_AS(parallel_for(0, 4, 1,
                                 [](int64_t, int64_t) {
                                   parallel_for(0, 4, 1, [](int64_t b, int64_t) {
                                     if (b == 2) throw ValueError("inner");
                                   });
                                 }),
                    ValueError);
  }

  TEST_CASE("inside a SerialScope everything runs on the calling thread, in order") {
    const Threads threads(4);
    const auto me = std::this_thread::get_id();
    std::vector<int64_t> order;
    {
      const SerialScope outer;
      const SerialScope inner;
      parallel_tasks(20, [&](int64_t i) {
        CHECK(std::this_thread::get_id() == me);
        order.push_back(i);
      });
    }
    REQUIRE(order.size() == 20);
    for (int64_t i = 0; i < 20; ++i) CHECK(order[static_cast<size_t>(i)] == i);
  }

  TEST_CASE("calls from several threads at once do not disturb each other") {
    std::atomic<int64_t> sum{0};
    std::vector<std::thread> callers;
    for (int t = 0; t < 3; ++t)
      callers.emplace_back([&] {
        for (int i = 0; i < 20; ++i)
          parallel_for(0, 1000, 10, [&](int64_t b, int64_t e) { sum += e - b; });
      });
    for (std::thread& t : callers) t.join();
    CHECK(sum == 60000);
  }

  TEST_CASE("the team grows and shrinks between calls; every task runs once") {
    for (const int n : {2, 5, 1, 3, 16, 2}) {
      const Threads threads(n);
      for (int round = 0; round < 200; ++round) {
        std::vector<std::atomic<int>> runs(37);
        parallel_tasks(37, [&](int64_t i) { ++runs[static_cast<size_t>(i)]; });
        int wrong = 0;
        for (const auto& r : runs) wrong += r != 1 ? 1 : 0;
        REQUIRE(wrong == 0);
      }
    }
  }

  TEST_CASE("a team that fell asleep wakes up") {
    const Threads two(2);
    std::atomic<int> helped{0};
    for (int i = 0; i < 20; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      const auto me = std::this_thread::get_id();
      std::atomic<bool> other{false};
      parallel_tasks(2, [&](int64_t) {
        if (std::this_thread::get_id() != me) other = true;
        for (int k = 0; k < 20000 && !other; ++k)
          std::this_thread::sleep_for(std::chrono::microseconds(100));
      });
      helped += other ? 1 : 0;
    }
    CHECK(helped == 20);
  }

#if !defined(__SANITIZE_THREAD__)  // which allows no threads in a fork
  TEST_CASE("a fork has a team of its own") {
    const Threads two(2);
    parallel_tasks(4, [](int64_t) {});
    const pid_t child = fork();
    if (child == 0) {
      std::atomic<int> n{0};
      parallel_tasks(100, [&](int64_t) { ++n; });
      _exit(n == 100 ? 0 : 1);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
#endif

  TEST_CASE("the number of threads can be set; 0 means the machine's") {
    set_num_threads(3);
    CHECK(num_threads() == 3);
    set_num_threads(-5);
    CHECK(num_threads() >= 1);
    set_num_threads(0);
    CHECK(num_threads() >= 1);
  }
}
