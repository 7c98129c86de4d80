#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "tenun/core/io/atomic_file.h"
#include "tenun/tests/io_util.h"

using namespace tenun;
using namespace tenun::test;
namespace fs = std::filesystem;

namespace {

/// Runs f in a child process; returns its exit status.
template <class F>
pid_t spawn(F&& f) {
  const pid_t pid = fork();
  if (pid == 0) {
    int rc = 9;
    try {
      rc = f();
    } catch (...) {
    }
    _exit(rc);
  }
  return pid;
}
int wait_for(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

/// The folder must hold files a, b, c, all with one and the same number.
int version_of(const std::string& dir) {
  const std::string a = slurp(dir + "/a"), b = slurp(dir + "/b"), c = slurp(dir + "/sub/c");
  if (a.empty() || a != b || b != c) return -1;
  return std::stoi(a);
}
void write_version(const std::string& dir, int version) {
  AtomicDir d(dir);
  write_file(d.path() + "/a", std::to_string(version));
  write_file(d.path() + "/b", std::to_string(version));
  fs::create_directory(d.path() + "/sub");
  spill(d.path() + "/sub/c", std::to_string(version));
  d.commit();
}

}  // namespace

TEST_SUITE("core_io_atomic") {
  TEST_CASE("write and read") {
    const TempDir dir;
    write_file(dir / "a", "one");
    CHECK(read_file(dir / "a") == "one");
    write_file(dir / "a", "two");
    CHECK(read_file(dir / "a") == "two");
    CHECK(dir.count() == 1);
    const std::string big(3'000'000, 'x');
    write_file(dir / "b", big);
    CHECK(read_file(dir / "b") == big);
    CHECK(contains(error_of([&] { (void)read_file(dir / "b", 1000); }),
                   "larger than the limit of 1000"));
    CHECK(read_file(dir / "a", 3) == "two");
    CHECK(contains(error_of([&] { (void)read_file(dir / "a", 2); }), "limit"));
    CHECK(!read_file("/proc/self/status").empty());  // claims size 0
  }

  TEST_CASE("errors name path and cause") {
    const TempDir dir;
    CHECK(error_of([&] { (void)read_file(dir / "none"); }) ==
          dir / "none: cannot open: No such file or directory");
    CHECK(contains(error_of([&] { write_file(dir / "no/such", "x"); }),
                   "such: cannot create the file: No such file"));
    CHECK(contains(error_of([&] { write_file("", "x"); }), "does not end in a name"));
    CHECK(contains(error_of([&] { (void)read_file(dir.path()); }), "Is a directory"));
    fs::create_directory(dir / "d");
    CHECK(contains(error_of([&] { write_file(dir / "d", "x"); }), "Is a directory"));
    CHECK(dir.count() == 1);
  }

  TEST_CASE("without commit nothing is left") {
    const TempDir dir;
    write_file(dir / "a", "old");
    {
      AtomicFile f(dir / "a");
      f.write("new");
      AtomicDir d(dir / "d");
      spill(d.path() + "/x", "x");
      CHECK(dir.count() == 3);
    }
    CHECK(dir.count() == 1);
    CHECK(read_file(dir / "a") == "old");
  }

  TEST_CASE("a write that fails is reported and keeps the old file") {
    const TempDir dir;
    write_file(dir / "a", "old");
    const int status = wait_for(spawn([&] {
      signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{4096, 4096};
      setrlimit(RLIMIT_FSIZE, &limit);
      const std::string e = error_of([&] { write_file(dir / "a", std::string(10000, 'x')); });
      return contains(e, "/a: cannot write: File too large") ? 0 : 1;
    }));
    CHECK(status == 0);
    CHECK(read_file(dir / "a") == "old");
    CHECK(dir.count() == 1);
  }

  TEST_CASE("a full disk is named, with what is left") {
    const FileHandle full = open_append("/dev/full");
    const std::string e = error_of([&] { write_all(full, "x", "/dev/full"); });
    CHECK(contains(e, "/dev/full: cannot write: No space left on device ("));
    CHECK(contains(e, "MiB are free"));
  }

  TEST_CASE("folders are replaced whole") {
    const TempDir dir;
    write_version(dir / "last", 1);
    CHECK(version_of(dir / "last") == 1);
    write_version(dir / "last/", 2);
    CHECK(version_of(dir / "last") == 2);
    CHECK(dir.count() == 1);
  }

  TEST_CASE("links") {
    const TempDir dir;
    write_version(dir / "step-1", 1);
    write_version(dir / "step-2", 2);
    replace_link(dir / "last", "step-1");
    CHECK(version_of(dir / "last") == 1);
    replace_link(dir / "last", "step-2");
    CHECK(version_of(dir / "last") == 2);
    CHECK(dir.count() == 3);
    CHECK(contains(error_of([&] { replace_link(dir / "step-1", "step-2"); }),
                   "exists; move it away"));
  }

  TEST_CASE("leftovers of dead writers go, those of living ones stay") {
    const TempDir dir;
    const pid_t dead = spawn([&] {
      auto* f = new AtomicFile(dir / "a");
      f->write("half");
      auto* d = new AtomicDir(dir / "d");
      spill(d->path() + "/x", "half");
      return 0;  // _exit: no destructor runs
    });
    wait_for(dead);
    fs::create_symlink("nowhere", dir / ".tmp-last-1-0");
    CHECK(dir.count() == 3);
    {
      const AtomicFile alive(dir / "a");
      const AtomicDir alive_too(dir / "d");
      CHECK(clean_leftovers(dir.path()) == 3);
      CHECK(dir.count() == 2);
    }
    CHECK(dir.count() == 0);
    CHECK(clean_leftovers(dir / "none") == 0);
  }

  TEST_CASE("a replacement without exchange is finished or undone") {
    const TempDir dir;
    write_version(dir / ".old-last", 1);  // killed between the two renames
    CHECK(clean_leftovers(dir.path()) == 1);
    CHECK(version_of(dir / "last") == 1);
    write_version(dir / ".old-last", 0);  // killed before the removal
    CHECK(clean_leftovers(dir.path()) == 1);
    CHECK(version_of(dir / "last") == 1);
    CHECK(dir.count() == 1);
  }

  TEST_CASE("killed at random moments, the folder is whole") {
    const TempDir dir;
    write_version(dir / "last", 1);
    replace_link(dir / "link", "last");
    int before = 1, advanced = 0;
    // On a slow machine the first kills may come before anything was written: then there are more.
    for (int round = 0; round < 40 || (advanced == 0 && round < 300); ++round) {
      const pid_t child = spawn([&] {
        for (int v = before + 1;; ++v) {
          write_version(dir / "last", v);
          replace_link(dir / "link", v % 2 == 0 ? "last" : "./last");
        }
        return 0;
      });
      std::this_thread::sleep_for(std::chrono::microseconds(500 + 613 * round));
      kill(child, SIGKILL);
      wait_for(child);
      CAPTURE(round);
      const int now = version_of(dir / "last");
      REQUIRE(now >= before);
      REQUIRE(version_of(dir / "link") == now);
      advanced += now > before;
      before = now;
      (void)clean_leftovers(dir.path());
      REQUIRE(dir.count() == 2);
      REQUIRE(version_of(dir / "last") == now);
    }
    CHECK(advanced > 0);  // else the kills came too early to show anything
  }
}
