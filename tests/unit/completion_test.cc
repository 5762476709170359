// SPDX-License-Identifier: Apache-2.0
// The scripts in the shells that they are for.
#include "cli/completion.h"

#include <algorithm>
#include <set>

#include "support/catch.h"
#include "support/kernel_test.h"

using namespace proxify;
using test::Finished;
using Words = std::set<std::string>;

namespace {

/// A directory with the scripts, and a proxify that knows of two targets.
struct Scripts {
    Scripts() {
        for (const char* shell : {"bash", "zsh", "fish"})
            test::write_file(directory / shell, cli::completion_for(shell).value());
        test::write_file(
            directory / "proxify",
            "#!/bin/sh\ncase $1 in\n"
            "services) printf 'SERVICE STATE\\nweb up\\nmail up\\n' ;;\n"
            "targets) printf 'SERVICE TARGET STATE\\nweb 127.0.0.1:9001 up\\n"
            "mail [2001:db8::1]:25 up\\nweb 10.0.0.7:* up\\n' ;;\n"
            "sessions) printf 'SESSION SERVICE\\n     17 web\\n    118 web\\nand 5 more\\n' ;;\n"
            "*) exit 1 ;;\nesac\n");
        std::filesystem::permissions(directory / "proxify", std::filesystem::perms(0755));
        test::write_file(directory / "a.toml", "");
    }

    Finished run(const std::vector<std::string>& argv) const {
        std::vector<std::string> all{"env", "PATH=" + directory.path().string() + ":/usr/bin:/bin",
                                     "HOME=" + directory.path().string()};
        all.insert(all.end(), argv.begin(), argv.end());
        return test::run({.argv = all, .directory = directory.path()});
    }

    test::TempDir directory;
};

Words words_of(const std::string& text) {
    auto lines = test::lines_of(text);
    return {lines.begin(), lines.end()};
}

/// What bash would put in place of its last word.
Words in_bash(const Scripts& scripts, const std::string& line,
              const std::string& breaks = " \t\n\"'><=;|&(:") {
    Finished done = scripts.run(
        {"bash", "-c",
         "set -u; . ./bash; COMP_WORDBREAKS=$2 COMP_LINE=$1 COMP_POINT=${#1}; _proxify && "
         "printf '%s\\n' ${COMPREPLY[@]+\"${COMPREPLY[@]}\"}",
         "bash", line, breaks});
    INFO(line << "\n" << done.out << done.err);
    CHECK(done.exit_code == 0);
    CHECK(done.err.empty());
    auto words = words_of(done.out);
    words.erase("");
    return words;
}

Words in_fish(const Scripts& scripts, const std::string& line) {
    Finished done =
        scripts.run({"fish", "--no-config", "-c", "source ./fish; complete -C $argv[1]", line});
    INFO(line << "\n" << done.out << done.err);
    CHECK(done.exit_code == 0);
    CHECK(done.err.empty());
    Words words;
    for (const auto& one : words_of(done.out)) words.insert(one.substr(0, one.find('\t')));
    return words;
}

/// The commands that exist, and the flags of one of them.
Words all_words() {
    Words out;
    for (const auto& command : cli::all_commands()) out.insert(std::string(command.word));
    out.erase("");
    return out;
}
Words flags_of(const cli::CommandInfo& command) {
    Words out{"--help"};
    for (auto name : command.flags) out.insert((name.size() > 1 ? "--" : "-") + std::string(name));
    return out;
}

}  // namespace

TEST_CASE("bash completes commands, the flags of each, services, targets and sessions") {
    Scripts scripts;
    CHECK(in_bash(scripts, "proxify ") == all_words());
    CHECK(in_bash(scripts, "proxify dra") == Words{"drain"});
    CHECK(in_bash(scripts, "proxify -b -p 80 -c f set") == Words{"set-weight"});
    for (const auto& command : cli::all_commands()) {
        auto line = "proxify " + std::string(command.word) + (command.word.empty() ? "" : " ");
        CHECK(in_bash(scripts, line + "-") == flags_of(command));
    }
    CHECK(in_bash(scripts, "proxify targets --se") == Words{"--service"});
    CHECK(in_bash(scripts, "proxify targets --service ") == Words{"web", "mail"});
    CHECK(in_bash(scripts, "proxify targets --service w") == Words{"web"});
    CHECK(in_bash(scripts, "proxify targets --service=m") == Words{"mail"});
    CHECK(in_bash(scripts, "proxify targets --service web ") == Words{});
    CHECK(in_bash(scripts, "proxify status -c a") == Words{"a.toml"});
    CHECK(in_bash(scripts, "proxify --config=a") == Words{"a.toml"});
    CHECK(in_bash(scripts, "proxify -p ") == Words{});
    CHECK(in_bash(scripts, "proxify kill 1") == Words{"17", "118"});
    CHECK(in_bash(scripts, "proxify kill 17 1") == Words{});
    CHECK(in_bash(scripts, "proxify completion ") == Words{"bash", "zsh", "fish"});

    // What comes before the last colon is on the line already, and stays.
    CHECK(in_bash(scripts, "proxify drain ") ==
          Words{"web/127.0.0.1:9001", "mail/[2001:db8::1]:25", "web/10.0.0.7:*"});
    CHECK(in_bash(scripts, "proxify --json drain web/1") ==
          Words{"web/127.0.0.1:9001", "web/10.0.0.7:*"});
    CHECK(in_bash(scripts, "proxify drain web/127.0.0.1:") == Words{"9001"});
    CHECK(in_bash(scripts, "proxify drain web/127.0.0.1:90") == Words{"9001"});
    CHECK(in_bash(scripts, "proxify drain mail/[2001:db8::") == Words{"1]:25"});
    CHECK(in_bash(scripts, "proxify drain web/127.0.0.1:90", " =") == Words{"web/127.0.0.1:9001"});
    CHECK(in_bash(scripts, "proxify set-weight web/127.0.0.1:9001 ") == Words{});
}

TEST_CASE("a proxify that does not answer leaves bash with nothing to offer, and no noise") {
    Scripts scripts;
    test::write_file(scripts.directory / "proxify", "#!/bin/sh\necho trouble >&2\nexit 1\n");
    CHECK(in_bash(scripts, "proxify drain ") == Words{});
    CHECK(in_bash(scripts, "proxify kill ") == Words{});
    CHECK(in_bash(scripts, "proxify targets --service ") == Words{});
}

TEST_CASE("zsh takes the script, and completes with it") {
    NEEDS_PROGRAM("zsh");
    Scripts scripts;
    Finished syntax = scripts.run({"zsh", "-f", "-n", "./zsh"});
    INFO(syntax.err);
    CHECK(syntax.exit_code == 0);
    CHECK(syntax.err.empty());

    // zsh completes only on a terminal: one of its own, in which ^X lists what there is, and which
    // is read until `last` has come.
    auto offered = [&](const std::string& line, const std::string& last) {
        Finished done = scripts.run(
            {"zsh", "-f", "-c",
             "zmodload zsh/zpty\n"
             "read_until() {\n"
             "  local part i; all=\n"
             "  for ((i = 0; i < 1000; i++)); do\n"
             "    zpty -r -t shell part && { all+=$part; continue }\n"
             "    [[ $all == *$1* ]] && return; sleep 0.01\n"
             "  done\n"
             "}\n"
             "zpty -b shell 'zsh -f -i'\n"
             "zpty -w shell 'PROMPT=; autoload -U compinit; compinit -u -D; source ./zsh; "
             "LISTMAX=9999; stty columns 200; bindkey \"^X\" list-choices; print READ''Y'\n"
             "read_until READY\n"
             "zpty -w -n shell $1$'\\x18'\n"
             "read_until $2\n"
             "zpty -d shell; print -r -- $all",
             "zsh", line, last});
        INFO(line << "\n" << done.out << done.err);
        CHECK(done.err.empty());
        CHECK(done.out.find(last) != std::string::npos);
        return done.out;
    };
    auto commands = offered("proxify ", "print the version");
    INFO(commands);
    for (const auto& word : all_words()) CHECK(commands.find(word) != std::string::npos);
    auto flags = offered("proxify reload --", "--socket");
    INFO(flags);
    CHECK(flags.find("--dry-run") != std::string::npos);
    CHECK(flags.find("--rollback-if-down") != std::string::npos);
    CHECK(flags.find("--limit") == std::string::npos);
    offered("proxify drain ", "web/127.0.0.1:9001");
    offered("proxify --json kill ", "118");
    offered("proxify targets --service ", "mail");
}

TEST_CASE("fish takes the script, and completes with it") {
    NEEDS_PROGRAM("fish");
    Scripts scripts;
    Finished syntax = scripts.run({"fish", "--no-config", "--no-execute", "./fish"});
    INFO(syntax.err);
    CHECK(syntax.exit_code == 0);
    CHECK(syntax.err.empty());

    CHECK(in_fish(scripts, "proxify ") == all_words());
    CHECK(in_fish(scripts, "proxify dra") == Words{"drain"});
    for (const auto& command : cli::all_commands()) {
        if (command.word.empty()) continue;
        auto wanted = flags_of(command);
        wanted.insert("--version");
        wanted.erase("-b");
        CHECK(in_fish(scripts, "proxify " + std::string(command.word) + " --") == wanted);
    }
    CHECK(in_fish(scripts, "proxify drain ") ==
          Words{"web/127.0.0.1:9001", "mail/[2001:db8::1]:25", "web/10.0.0.7:*"});
    CHECK(in_fish(scripts, "proxify drain web/127.0.0.1:90") == Words{"web/127.0.0.1:9001"});
    CHECK(in_fish(scripts, "proxify kill 1") == Words{"17", "118"});
    CHECK(in_fish(scripts, "proxify targets --service ") == Words{"web", "mail"});
    CHECK(in_fish(scripts, "proxify completion ") == Words{"bash", "zsh", "fish"});
}

TEST_CASE("there is no script for other shells") {
    auto none = cli::completion_for("tcsh");
    REQUIRE_FALSE(none);
    CHECK(none.error().hint == "say bash, zsh or fish");
}
