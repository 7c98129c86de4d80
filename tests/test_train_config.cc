// Configuration files: YAML rules, merging, inheritance, overrides, writing.
#include <doctest/doctest.h>
#include <fmt/core.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "tenun/train/config/config.h"
#include "tenun/train/config/scalars.h"

namespace {

namespace fs = std::filesystem;
using namespace tenun;

YamlNode tree(const std::string& text) {
  ConfigProblems problems;
  YamlNode n = parse_yaml(text, "t.yaml", problems);
  problems.throw_if_any();
  return n;
}

/// The same tree, whatever the style of the text.
void check_same(const YamlNode& a, const std::string& b) {
  const YamlNode other = tree(b);
  CAPTURE(to_yaml(a));
  CAPTURE(to_yaml(other));
  CHECK(same_content(a, other));
}

YamlNode merged(const std::string& a, const std::string& b) {
  YamlNode n = tree(a);
  merge_yaml(n, tree(b));
  return n;
}

YamlNode overridden(const std::string& text, const std::vector<std::string>& flags) {
  ConfigProblems problems;
  YamlNode n = tree(text);
  for (const auto& change : parse_overrides(flags)) apply_override(n, change, problems);
  problems.throw_if_any();
  expand_short_forms(n);
  return n;
}

struct Folder {
  fs::path path = fs::temp_directory_path() / fmt::format("tenun-config-ok-{}", ::getpid());
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  std::string write(const std::string& name, const std::string& text) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name) << text;
    return (path / name).string();
  }
};

}  // namespace

TEST_SUITE("train_config") {
  TEST_CASE("anchors, aliases and merge keys are copied") {
    check_same(tree("a: &x {p: 1, q: [2]}\nb: *x\nc: &y 5\nd: [*y, *x]"),
               "{a: {p: 1, q: [2]}, b: {p: 1, q: [2]}, c: 5, d: [5, {p: 1, q: [2]}]}");
    check_same(tree("a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3"),
               "{a: {p: 1, q: 2}, b: {q: 3, p: 1}}");
    // Own keys win, then earlier maps of the list.
    check_same(tree("a: &x {p: 1, q: 1}\nb: &y {q: 2, r: 2}\nc: {<<: [*x, *y], p: 0}"),
               "{a: {p: 1, q: 1}, b: {q: 2, r: 2}, c: {p: 0, q: 1, r: 2}}");
    check_same(tree("a: {'<<': 3}"), "{a: {'<<': 3}}");  // quoted, an ordinary key
    // An alias is a copy: an override of one place does not reach the other.
    check_same(overridden("a: &x {p: 1}\nb: *x", {"--a.p=2"}), "{a: {p: 2}, b: {p: 1}}");
  }

  TEST_CASE("null, quoting and positions") {
    const YamlNode n = tree("a: ~\nb:\nc: null\nd: 'null'\ne: !!str 12\nf: |\n  two\n  lines\n");
    CHECK(n.find("a")->value.is_null());
    CHECK(n.find("b")->value.is_null());
    CHECK(n.find("c")->value.is_null());
    CHECK(n.find("d")->value.quoted);
    CHECK(n.find("e")->value.quoted);
    CHECK(n.find("f")->value.text == "two\nlines\n");
    CHECK(n.find("e")->key_mark.line == 5);
    CHECK(n.find("e")->key_mark.column == 1);
    CHECK(tree("\xEF\xBB\xBF"
               "a: 1")
              .find("a") != nullptr);  // a byte order mark is no key
  }

  TEST_CASE("scalars") {
    CHECK(read_double("1e-4").value() == 1e-4);
    CHECK(read_double("1.0e-4").value() == 1e-4);
    CHECK(read_double("-.5").value() == -0.5);
    CHECK(read_double("5.").value() == 5.0);
    CHECK(read_double(".inf").value() == std::numeric_limits<double>::infinity());
    for (const char* bad :
         {"", "nan", "inf", "1e", "0x10", "1_0", "--1", "1.2.3", "e5", "007", "+"})
      CHECK_MESSAGE(!read_double(bad), bad);
    CHECK(read_int("1e3").value() == 1000);
    CHECK(read_int("+7").value() == 7);
    CHECK(read_int("-9223372036854775808").value() == std::numeric_limits<std::int64_t>::min());
    CHECK(!read_int("9223372036854775808"));
    CHECK(!read_int("010"));
    CHECK(read_bool("On").value());
    CHECK(!read_bool("NO").value());
    CHECK(!read_bool("1"));
    for (const double v : {0.1, 1e-4, 1e-10, 3.0, -0.0, 1e300, 5e-324, 0.30000000000000004})
      CHECK(read_double(shortest_double(v)).value() == v);
    CHECK(shortest_double(0.1) == "0.1");
    CHECK(shortest_double(2.0) == "2.0");
  }

  TEST_CASE("text that is written reads back the same") {
    for (const std::string text :
         {"plain",    "with space",  "true",       "NULL",        "~",     "12",    "1e-4",
          "0x1f",     "a: b",        "#x",         "- x",         "",      " lead", "tail ",
          "quote\"s", "back\\slash", "two\nlines", "tab\there",   "*star", "{b}",   "[c]",
          "~/path",   "../up",       ".hidden",    "m\xc3\xa9ga", "%x",    "@at",   "`x`",
          "!tag",     "x,y",         "2024-01-01", "yes",         "=",     "<<",    "?",
          "-",        "a#b",         "32-true",    "...",         "---"}) {
      YamlNode map = YamlNode::map();
      map.entries.push_back({"k", {}, YamlNode::scalar(text, needs_quotes(text))});
      map.entries.push_back({text, {}, YamlNode::scalar("1")});
      YamlNode list = YamlNode::sequence();
      list.items = {YamlNode::scalar(text, needs_quotes(text)), map};
      map.entries.push_back({"list", {}, list});
      CAPTURE(to_yaml(map));
      const YamlNode back = tree(to_yaml(map));
      CHECK(back.find("k")->value.text == text);
      CHECK(same_content(back, map));
    }
  }

  TEST_CASE("merging: maps deep, lists replace, init_args follow their class") {
    check_same(merged("{a: {b: 1, c: 2}, l: [1, 2]}", "{a: {c: 3}, l: [4]}"),
               "{a: {b: 1, c: 3}, l: [4]}");
    check_same(merged("{o: {class_path: A, init_args: {x: 1, y: 2}}}",
                      "{o: {class_path: A, init_args: {y: 3}}}"),
               "{o: {class_path: A, init_args: {x: 1, y: 3}}}");
    check_same(merged("{o: {class_path: A, init_args: {x: 1}}}", "{o: {class_path: B}}"),
               "{o: {class_path: B}}");
    check_same(merged("{o: {class_path: A, init_args: {x: 1}}}", "{o: {type: B, z: 1}}"),
               "{o: {class_path: B, init_args: {z: 1}}}");
    check_same(merged("{o: m.A}", "{o: {init_args: {x: 1}}}"),
               "{o: {class_path: m.A, init_args: {x: 1}}}");
    check_same(merged("{o: {class_path: A, init_args: {x: 1}}}", "{o: {y: 2}}"),
               "{o: {class_path: A, init_args: {x: 1, y: 2}}}");
    check_same(merged("{o: {class_path: A}}", "{o: B}"), "{o: B}");
    check_same(merged("{a: 1}", "{a: null}"), "{a: null}");
    check_same(tree("{type: AdamW, lr: 1e-4}"), "{class_path: AdamW, init_args: {lr: 1e-4}}");
    check_same(tree("{tags: {type: big}}"), "{tags: {type: big}}");
  }

  TEST_CASE("base: paths relative to the file, lists, order, x- keys") {
    const Folder folder;
    folder.write("sub/a.yaml", "x-note: &n 1\n.hidden: 2\nt: {a: *n, b: 1, l: [1, 2]}\n");
    folder.write("sub/b.yaml", "base: a.yaml\nt: {b: 2, c: 2}\n");
    folder.write("other.yaml", "t: {c: 3, d: 3}\n");
    const auto top =
        folder.write("top.yaml", "base: [sub/b.yaml, other.yaml]\nt: {d: 4, l: [9]}\n");
    ConfigProblems problems;
    const YamlNode n = load_yaml(top, problems);
    problems.throw_if_any();
    check_same(n, "{t: {a: 1, b: 2, c: 3, d: 4, l: [9]}}");
    CHECK(fs::path(n.find("t")->value.find("c")->value.mark.source->name).filename() ==
          "other.yaml");
    // A diamond is no cycle.
    const auto diamond = folder.write("d.yaml", "base: [sub/a.yaml, sub/b.yaml]\n");
    static_cast<void>(load_yaml(diamond, problems));
    CHECK(problems.empty());
  }

  TEST_CASE("overrides") {
    const std::string text =
        "{a: {b: {c: 1}}, o: {class_path: m.A, init_args: {x: 1}}, s: m.S, "
        "l: [{class_path: m.C, init_args: {k: 1}}, 2]}";
    const auto changed = [&](const std::string& flag) { return overridden(text, {flag}); };
    CHECK(changed("--a.b.c=5").find("a")->value.find("b")->value.find("c")->value.text == "5");
    check_same(changed("--a=[1, {k: v}]").find("a")->value, "[1, {k: v}]");
    check_same(changed("--o.init_args.x=2").find("o")->value,
               "{class_path: m.A, init_args: {x: 2}}");
    check_same(changed("--o.x=2").find("o")->value, "{class_path: m.A, init_args: {x: 2}}");
    check_same(changed("--o.y.z=2").find("o")->value,
               "{class_path: m.A, init_args: {x: 1, y: {z: 2}}}");
    check_same(changed("--o.class_path=m.B").find("o")->value, "{class_path: m.B}");
    check_same(changed("--o.type=m.B").find("o")->value, "{class_path: m.B}");
    check_same(changed("--o.class_path=m.A").find("o")->value,
               "{class_path: m.A, init_args: {x: 1}}");
    check_same(changed("--o=null").find("o")->value, "null");
    check_same(changed("--o={class_path: m.A, init_args: {y: 1}}").find("o")->value,
               "{class_path: m.A, init_args: {x: 1, y: 1}}");
    check_same(changed("--s.init_args.q=1").find("s")->value,
               "{class_path: m.S, init_args: {q: 1}}");
    check_same(changed("--l.0.init_args.k=7").find("l")->value,
               "[{class_path: m.C, init_args: {k: 7}}, 2]");
    check_same(changed("--l[0].k=7").find("l")->value, "[{class_path: m.C, init_args: {k: 7}}, 2]");
    check_same(changed("--l[1]=x").find("l")->value, "[{class_path: m.C, init_args: {k: 1}}, x]");
    check_same(changed("--l=[]").find("l")->value, "[]");
    check_same(changed("--new.deep.key=[1, 2]").find("new")->value, "{deep: {key: [1, 2]}}");
    check_same(changed("--empty=").find("empty")->value, "null");
    check_same(changed("--text=a=b").find("text")->value, "a=b");
    check_same(overridden("{a: 1}", {"--o.type=B", "--o.k=1"}).find("o")->value,
               "{class_path: B, init_args: {k: 1}}");
    check_same(overridden("{a: 1}", {"--a", "2", "b=3", "--c=-4"}), "{a: 2, b: 3, c: -4}");
    CHECK_THROWS_AS(static_cast<void>(parse_overrides({"--flag"})), UsageError);
    CHECK_THROWS_AS(static_cast<void>(parse_overrides({"--a", "--b=1"})), UsageError);
    CHECK_THROWS_AS(static_cast<void>(parse_overrides({"word"})), UsageError);
  }

  TEST_CASE("did you mean") {
    CHECK(edit_distance("abcd", "abdc") == 1);
    CHECK(edit_distance("kitten", "sitting") == 3);
    CHECK(edit_distance("", "abc") == 3);
    CHECK(nearest_word("learning_rte", {"lr", "learning_rate"}) == "learning_rate");
    CHECK(nearest_word("lrr", {"lr", "eps"}) == "lr");
    CHECK(nearest_word("xyz", {"lr", "eps"}).empty());
    CHECK(nearest_word("train_batch", {"eval_batch_size", "train_batch_size"}) ==
          "train_batch_size");
    CHECK(nearest_word(std::string(100000, 'a'), {"a"}).empty());
  }
}
