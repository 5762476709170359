// SPDX-License-Identifier: Apache-2.0
// The only file that knows cxxopts, and where what it throws ends.
#include "cli/options.h"

#define CXXOPTS_NO_REGEX  // std::regex recurses: an argument of 100 kB would overflow the stack
#include <algorithm>
#include <charconv>
#include <cxxopts.hpp>
#include <string_view>
#include <vector>

#include "base/format.h"
#include "base/nearest.h"
#include "config/words.h"

#ifndef PROXIFY_VERSION
#define PROXIFY_VERSION "unversioned"
#endif

namespace proxify::cli {

using config::quoted;

static constexpr auto try_help = "try proxify --help";
static constexpr std::string_view long_names[] = {"port", "config", "help", "version"};
static constexpr std::string_view flags[] = {"-b",     "-p",       "-c",     "-h",
                                             "--port", "--config", "--help", "--version"};
static constexpr std::string_view commands[] = {"check", "doctor", "help", "version"};

static cxxopts::Options known_options() {
    cxxopts::Options options("proxify",
                             "Puts TCP ports of this host in front of healthy targets.\n");
    options.custom_help(
        "[-b] [-p PORT] [-c FILE]\n"
        "  proxify check [-c FILE]   print what would run, or what is wrong; needs no privileges\n"
        "  proxify doctor [-b] [-p PORT] [-c FILE]   say whether this host can do it");
    options.allow_unrecognised_options();  // so that we can say what was meant instead
    options.add_options()                  //
        ("b", "enable bpf steering")       //
        ("p,port", "listener port for bpf steering (default 8080)", cxxopts::value<std::string>(),
         "PORT")  //
        ("c,config", "services and their targets (default ./targets.toml)",
         cxxopts::value<std::string>(), "FILE")  //
        ("h,help", "print this help")            //
        ("version", "print the version");
    return options;
}

static std::vector<std::string> as_cxxopts_reads(int argc, const char* const* argv);
static Result<uint16_t> read_port(const std::string& text);
static Error unknown_flag(const std::string& flag);
static Result<Options::Command> read_command(const std::vector<std::string>& words);

Result<Options> parse_options(int argc, const char* const* argv) {
    auto arguments = as_cxxopts_reads(argc, argv);
    std::vector<const char*> pointers;
    for (const auto& argument : arguments) pointers.push_back(argument.c_str());

    try {
        auto parser = known_options();
        auto given = parser.parse(static_cast<int>(pointers.size()), pointers.data());

        std::vector<std::string> words;
        for (const auto& word : given.unmatched()) {
            if (word.starts_with('-')) return fail(unknown_flag(word));
            words.push_back(word);
        }
        for (auto name : {"port", "config"}) {
            if (given.count(name) > 1)
                return fail(Error::of(format("--{} is given twice", name), try_help));
        }

        Options options;
        TRY_TO(command, read_command(words));
        options.command = command;
        options.steer = given.count("b") > 0;
        if (given.count("port")) {
            TRY_TO(port, read_port(given["port"].as<std::string>()));
            options.port = port;
        }
        if (given.count("config")) options.config_path = given["config"].as<std::string>();
        if (options.config_path.empty()) return fail(Error::of("--config names no file", try_help));
        if (given.count("version")) options.command = Options::Command::version;
        if (given.count("help")) options.command = Options::Command::help;
        return options;
    } catch (const cxxopts::exceptions::exception& error) {
        return fail(Error::of(error.what(), try_help).within("cannot understand the command line"));
    }
}

// Settles the forms that cxxopts does not take: -help and -port=80, as Go programs spell them, and
// a value joined to its letter, -ctargets.toml or -p=80.
static std::vector<std::string> as_cxxopts_reads(int argc, const char* const* argv) {
    std::vector<std::string> out{"proxify"};
    bool only_words_follow = false;
    for (int i = 1; i < argc; ++i) {
        std::string_view argument = argv[i];
        auto name = argument.substr(std::min<size_t>(1, argument.size()));
        name = name.substr(0, name.find('='));
        bool is_long = std::ranges::find(long_names, name) != std::end(long_names);
        bool takes_value = argument.starts_with("-p") || argument.starts_with("-c");

        if (only_words_follow || !argument.starts_with('-')) {
            out.emplace_back(argument);
        } else if (is_long) {
            out.push_back("-" + std::string(argument));
        } else if (takes_value && argument.size() > 2) {
            out.emplace_back(argument.substr(0, 2));
            out.emplace_back(argument.substr(argument[2] == '=' ? 3 : 2));
        } else {
            out.emplace_back(argument);
        }
        only_words_follow |= argument == "--";
        bool value_follows = out.back() == "-p" || out.back() == "-c" || out.back() == "--port" ||
                             out.back() == "--config";
        if (!only_words_follow && value_follows && i + 1 < argc) out.emplace_back(argv[++i]);
    }
    return out;
}

static Result<uint16_t> read_port(const std::string& text) {
    uint16_t port = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || end != text.data() + text.size() || port == 0)
        return fail(Error::of(
            format("--port: expected a number from 1 to 65535, found {}", quoted(text)), try_help));
    return port;
}

static std::string did_you_mean(std::string_view near) {
    return near.empty() ? try_help : format("did you mean {}? Otherwise {}", near, try_help);
}

static Error unknown_flag(const std::string& flag) {
    auto name = std::string_view(flag).substr(0, flag.find('='));
    // Between single letters everything is near everything: guess only at words.
    auto near = name.size() > 2 ? nearest(name, flags) : std::string_view();
    return Error::of("unknown flag " + quoted(flag), did_you_mean(near));
}

static Result<Options::Command> read_command(const std::vector<std::string>& words) {
    using enum Options::Command;
    if (words.empty()) return run;
    const auto& word = words.front();
    if (word.ends_with(".toml"))
        return fail(Error::of("unknown command " + quoted(word), "name the file with -c " + word));
    if (std::ranges::find(commands, word) == std::end(commands))
        return fail(
            Error::of("unknown command " + quoted(word), did_you_mean(nearest(word, commands))));
    if (words.size() > 1)
        return fail(Error::of(
            format("{} takes no argument, found {}", word, quoted(words[1])),
            word == "check" || word == "doctor" ? "name the file with -c FILE" : try_help));
    if (word == "doctor") return doctor;
    return word == "check" ? check : word == "help" ? help : version;
}

std::string help_text() {
    return known_options().help() +
           "\nExit codes: 0 done, 1 could not do what was asked, 2 wrong usage,\n"
           "3 only warnings (doctor).\n";
}

std::string version_text() {
    return "proxify " PROXIFY_VERSION "\n";
}

}  // namespace proxify::cli
