// SPDX-License-Identifier: Apache-2.0
// The manual page and the program know the same words.
#include <regex>
#include <set>

#include "cli/options.h"
#include "support/kernel_test.h"

using namespace proxify;

namespace {

const std::string page = test::source_root() + "/packaging/man/proxify.8";

/// The first group of each match in the page's lists.
std::set<std::string> in_page(const std::string& pattern) {
    std::set<std::string> found;
    const std::regex wanted(pattern);
    for (const auto& line : test::lines_of(test::read_file(page))) {
        if (!line.starts_with(".It ")) continue;
        for (std::sregex_iterator match(line.begin(), line.end(), wanted), end; match != end;
             ++match)
            found.insert((*match)[1]);
    }
    return found;
}

}  // namespace

TEST_CASE("the manual page has every command with its arguments, and no other") {
    std::set<std::string> wanted;
    for (const auto& command : cli::all_commands())
        if (!command.word.empty())
            wanted.insert(std::string(command.word) + (command.arguments.empty() ? "" : " Ar ") +
                          std::string(command.arguments));
    CHECK(in_page("^\\.It Cm (.*)$") == wanted);
}

TEST_CASE("the manual page has every flag with its value, and no other") {
    std::set<std::string> letters, names, values;
    for (const auto& flag : cli::all_flags()) {
        if (flag.letter) letters.insert(std::string(1, flag.letter));
        if (flag.name.size() > 1) names.insert(std::string(flag.name));
        if (!flag.value.empty())
            values.insert(std::string(flag.name) + " " +
                          std::regex_replace(std::string(flag.value), std::regex("[\\[\\]]"), ""));
    }
    CHECK(in_page("Fl ([a-z])(?= |$)") == letters);
    CHECK(in_page("Fl Fl ([a-z-]+)") == names);
    std::set<std::string> found;
    for (const auto& name : names)
        for (const auto& value : in_page("Fl Fl " + name + "(?: Ns Op = Ns)? Ar ([A-Z:]+)$"))
            found.insert(name + " " + value);
    CHECK(found == values);
}

TEST_CASE("the manual page is set without a warning") {
    NEEDS_PROGRAM("groff");
    auto set = test::run({.argv = {"groff", "-mdoc", "-Tutf8", "-ww", page}});
    CHECK(set.exit_code == 0);
    CHECK(set.err == "");
    CHECK(set.out.find("proxify") != std::string::npos);
}
