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

// ---- what there is

using Names = std::string_view;
static constexpr Names run_flags[] = {"b", "port", "config", "socket"};
static constexpr Names check_flags[] = {"b", "port", "config", "json"};
static constexpr Names doctor_flags[] = {"b", "port", "config", "json"};
static constexpr Names ask_flags[] = {"socket", "config", "json"};
static constexpr Names show_flags[] = {"socket", "config", "json", "watch"};
static constexpr Names of_service_flags[] = {"socket", "config", "json", "watch", "service"};
static constexpr Names sessions_flags[] = {"socket",  "config", "json",   "watch",
                                           "service", "target", "client", "limit"};
static constexpr Names top_flags[] = {"socket", "config", "watch"};
static constexpr Names reload_flags[] = {"socket", "config", "json", "dry-run", "rollback-if-down"};

static constexpr Names intercept_flags[] = {
    "container", "from-container", "cidr",         "cgroup",  "exempt-cgroup", "proxy",
    "listen",    "show-events",    "report-every", "runtime", "socket",        "json"};
static constexpr Names ingress_flags[] = {"map", "interface", "hook", "socket", "json"};
static constexpr Names redirect_flags[] = {"ports", "to", "only", "mark", "socket", "json"};
static constexpr Names mesh_flags[] = {
    "ca",           "cert",        "key",      "cidr",         "cgroup", "exempt-cgroup",
    "listen",       "tunnel-port", "address",  "dial-address", "ports",  "server-name",
    "allowed-name", "fallback",    "max-hops", "show-events",  "socket", "json"};
static constexpr Names cert_flags[] = {"out", "ca", "san", "cn", "days", "force"};

static constexpr CommandInfo commands[] = {
    {Command::run, "", "", 0, run_flags, "serve, until SIGTERM"},
    {Command::check, "check", "", 0, check_flags,
     "print what would run, or what is wrong; needs no privileges"},
    {Command::doctor, "doctor", "", 0, doctor_flags, "say whether this host can do it"},
    {Command::status, "status", "", 0, show_flags, "how it is, in a few lines"},
    {Command::services, "services", "", 0, of_service_flags, "each service and its load"},
    {Command::targets, "targets", "", 0, of_service_flags, "each target, its state and why"},
    {Command::sessions, "sessions", "", 0, sessions_flags, "the connections that are open"},
    {Command::ports, "ports", "", 0, of_service_flags, "each port, and whom it leads to"},
    {Command::steering, "steering", "", 0, show_flags, "the kernel's program and its counters"},
    {Command::explain, "explain", "CLIENT DESTINATION", 2, ask_flags,
     "what would become of a connection, step by step"},
    {Command::top, "top", "", 0, top_flags,
     "all of it on one screen, live; drains and ends, after asking"},
    {Command::reload, "reload", "", 0, reload_flags,
     "take over the file, or say what would change"},
    {Command::drain, "drain", "[SERVICE/]TARGET", 1, ask_flags,
     "no new sessions for a target; those it has go on"},
    {Command::undrain, "undrain", "[SERVICE/]TARGET", 1, ask_flags, "new sessions again"},
    {Command::set_weight, "set-weight", "[SERVICE/]TARGET WEIGHT", 2, ask_flags,
     "another share of new sessions; \"file\" for the file's"},
    {Command::kill, "kill", "SESSION", 1, ask_flags, "end one session"},
    {Command::intercept, "intercept", "", 0, intercept_flags,
     "catch connections of this host's programs and containers"},
    {Command::ingress, "ingress", "", 0, ingress_flags,
     "lead ports of this host to others, where packets come in"},
    {Command::redirect, "redirect", "[rules add|remove|show]", 0, redirect_flags,
     "pass on what iptables redirects, to where it was going; or write the rules"},
    {Command::mesh, "mesh", "", 0, mesh_flags,
     "take what programs here dial to other hosts' proxify mesh, encrypted"},
    {Command::cert, "cert", "ca|leaf", 1, cert_flags,
     "make an authority of your own, or a certificate that it vouches for"},
    {Command::completion, "completion", "SHELL", 1, {}, "a script for bash, zsh or fish"},
    {Command::help, "help", "", 0, {}, "print this help"},
    {Command::version, "version", "", 0, {}, "print the version"},
};

static constexpr FlagInfo flag_infos[] = {
    {"b", 'b', "", "enable bpf steering"},
    {"port", 'p', "PORT", "listener port for bpf steering (default 8080)"},
    {"config", 'c', "FILE", "services and their targets (default ./targets.toml)"},
    {"socket", 0, "PATH", "the admin socket (default /run/proxify/admin.sock)"},
    {"json", 0, "", "JSON instead of text"},
    {"watch", 0, "[INTERVAL]", "again and again, every second or as --watch=5s says"},
    {"service", 0, "NAME", "of this service only"},
    {"target", 0, "ADDRESS", "sessions with this target only"},
    {"client", 0, "ADDRESS", "sessions of this client only"},
    {"limit", 0, "COUNT", "so many sessions, the oldest"},
    {"dry-run", 0, "", "say what reload would change (or the file of -c), and change nothing"},
    {"rollback-if-down", 0, "TIME",
     "take the reload back when a service loses its last target within this time"},
    {"container", 0, "NAME[:PORT]", "intercept what goes to this container", true},
    {"from-container", 0, "NAME", "only what this container dials", true},
    {"cidr", 0, "PREFIX[:PORT]", "intercept what goes to these addresses", true},
    {"cgroup", 0, "PATH", "only what is dialled in this cgroup (default: all of them)"},
    {"exempt-cgroup", 0, "PATH", "but not what is dialled in this one", true},
    {"proxy", 0, "IP:PORT", "the proxy that gets it; without one it is only seen"},
    {"listen", 0, "PORT", "proxify itself gets it, on this port, and passes it on"},
    {"show-events", 0, "", "a line for each connection"},
    {"report-every", 0, "TIME", "how many are open, again and again"},
    {"runtime", 0, "NAME", "who has the containers: docker (default) or podman"},
    {"map", 0, "PORT:TO", "lead what comes for PORT to the local port TO", true},
    {"interface", 0, "NAME", "only on this interface (default: all but loopback)", true},
    {"hook", 0, "HOW", "tcx or clsact (default auto: tcx where the kernel has it)"},
    {"ports", 0, "PORTS", "listen here; of rules: what clients dial; of mesh: what others reach",
     true},
    {"to", 0, "PORT", "rules lead to this port, where proxify listens"},
    {"only", 0, "WHICH", "rules for what is arriving, or leaving, at this host (default both)"},
    {"mark", 0, "MARK", "rules leave what carries it alone (default 0x2035)"},
    {"out", 0, "NAME", "make NAME.pem and NAME.key"},
    {"ca", 0, "NAME", "the authority that vouches, in NAME.pem (and NAME.key for cert)"},
    {"cert", 0, "NAME", "mesh shows the certificate in NAME.pem, with NAME.key (node)"},
    {"key", 0, "FILE", "its key is in another file"},
    {"tunnel-port", 0, "PORT", "mesh listens and dials here (default 18001)"},
    {"address", 0, "IP", "mesh listens at this address only"},
    {"dial-address", 0, "IP", "mesh dials this instead of where the client aimed"},
    {"server-name", 0, "NAME", "whom other hosts' certificates are for (default: their address)"},
    {"allowed-name", 0, "NAME", "only certificates with this name take part in the mesh", true},
    {"fallback", 0, "HOW", "refuse (default) or plain: in the clear where nobody has a mesh"},
    {"max-hops", 0, "COUNT", "meshes that a connection may come through (default 4)"},
    {"san", 0, "NAME", "a name, address or URI that the certificate is for", true},
    {"cn", 0, "NAME", "its common name (default: the first --san)"},
    {"days", 0, "DAYS", "how long it is good (default 365, of an authority 3650)"},
    {"force", 0, "", "take the place of files that are there"},
    {"help", 'h', "", "print this help"},
    {"version", 0, "", "print the version"},
};

std::span<const CommandInfo> all_commands() {
    return commands;
}

std::span<const FlagInfo> all_flags() {
    return flag_infos;
}

/// Its value follows as a word of its own, or behind "=".
static bool takes_value(const FlagInfo& flag) {
    return !flag.value.empty() && !flag.value.starts_with('[');
}

static cxxopts::Options known_options() {
    cxxopts::Options options("proxify",
                             "Puts TCP ports of this host in front of healthy targets.\n");
    options.allow_unrecognised_options();  // so that we can say what was meant instead
    auto add = options.add_options();
    for (const auto& flag : flag_infos) {
        std::string names(flag.name);
        if (flag.letter && flag.name.size() > 1) names = std::string(1, flag.letter) + "," + names;
        std::string help(flag.help), value(flag.value);
        if (flag.value.empty())
            add(names, help);
        else if (flag.repeats)
            add(names, help, cxxopts::value<std::vector<std::string>>(), value);
        else if (takes_value(flag))
            add(names, help, cxxopts::value<std::string>(), value);
        else
            add(names, help, cxxopts::value<std::string>()->implicit_value("1s"), value);
    }
    return options;
}

// ---- reading

static std::vector<std::string> as_cxxopts_reads(int argc, const char* const* argv);
static Result<uint16_t> read_port(const std::string& text);
static Result<Duration> read_duration(std::string_view flag, const std::string& text);
static Result<> check_count(std::string_view flag, const std::string& text);
static Error unknown_flag(const std::string& flag);
static Result<const CommandInfo*> read_command(const std::vector<std::string>& words);

static Result<Options> read(const cxxopts::ParseResult& given) {
    std::vector<std::string> words;
    for (const auto& word : given.unmatched()) {
        if (word.starts_with('-')) return fail(unknown_flag(word));
        words.push_back(word);
    }
    for (const auto& flag : flag_infos)
        if (!flag.value.empty() && !flag.repeats && given.count(std::string(flag.name)) > 1)
            return fail(Error::of(format("--{} is given twice", flag.name), try_help));
    auto text = [&](const char* name) { return given[name].as<std::string>(); };

    Options options;
    TRY_TO(command, read_command(words));
    options.command = command->command;
    if (!words.empty()) options.arguments.assign(words.begin() + 1, words.end());
    options.steer = given.count("b") > 0;
    options.json = given.count("json") > 0;
    options.dry_run = given.count("dry-run") > 0;
    options.force = given.count("force") > 0;
    if (given.count("port")) {
        TRY_TO(port, read_port(text("port")));
        options.port = port;
    }
    if (given.count("config")) options.config_path = text("config");
    if (options.config().empty()) return fail(Error::of("--config names no file", try_help));
    if (given.count("socket")) options.socket = text("socket");
    if (options.socket && options.socket->empty())
        return fail(Error::of("--socket names no file", try_help));
    for (auto name :
         {"service",     "target",  "client",       "limit",       "cgroup",   "proxy",
          "listen",      "runtime", "hook",         "to",          "only",     "mark",
          "out",         "ca",      "cn",           "days",        "cert",     "key",
          "tunnel-port", "address", "dial-address", "server-name", "fallback", "max-hops"})
        if (given.count(name)) options.filters[name] = text(name);
    for (const auto& flag : flag_infos)
        if (const std::string name(flag.name); flag.repeats && given.count(name))
            options.lists[name] = given[name].as<std::vector<std::string>>();
    options.show_events = given.count("show-events") > 0;
    if (given.count("report-every")) {
        TRY_TO(pause, read_duration("report-every", text("report-every")));
        options.report_every = pause;
    }
    if (auto limit = options.filters.find("limit"); limit != options.filters.end())
        TRY(check_count("limit", limit->second));
    if (given.count("watch")) {
        TRY_TO(pause, read_duration("watch", text("watch")));
        options.watch = pause;
    }
    if (given.count("rollback-if-down")) {
        TRY_TO(time, read_duration("rollback-if-down", text("rollback-if-down")));
        options.rollback_if_down = time;
    }
    if (given.count("version")) options.command = Command::version;
    if (given.count("help")) options.command = Command::help;
    if (options.command == Command::help || options.command == Command::version) return options;
    for (const auto& flag : flag_infos)
        if (given.count(std::string(flag.name)) &&
            std::ranges::find(command->flags, flag.name) == command->flags.end())
            return fail(
                Error::of(format("{}{} means nothing to {}", flag.name.size() > 1 ? "--" : "-",
                                 flag.name, command->word.empty() ? "a start" : command->word),
                          try_help));
    return options;
}

Result<Options> parse_options(int argc, const char* const* argv) {
    auto arguments = as_cxxopts_reads(argc, argv);
    std::vector<const char*> pointers;
    for (const auto& argument : arguments) pointers.push_back(argument.c_str());
    try {
        auto parser = known_options();
        return read(parser.parse(static_cast<int>(pointers.size()), pointers.data()));
    } catch (const cxxopts::exceptions::exception& error) {
        return fail(Error::of(error.what(), try_help).within("cannot understand the command line"));
    }
}

static const FlagInfo* flag_named(std::string_view name) {
    auto found = std::ranges::find(flag_infos, name, &FlagInfo::name);
    return found == std::end(flag_infos) || name.size() < 2 ? nullptr : found;
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
        bool has_letter = argument.starts_with("-p") || argument.starts_with("-c");

        if (only_words_follow || !argument.starts_with('-')) {
            out.emplace_back(argument);
        } else if (flag_named(name)) {
            out.push_back("-" + std::string(argument));
        } else if (has_letter && argument.size() > 2) {
            out.emplace_back(argument.substr(0, 2));
            out.emplace_back(argument.substr(argument[2] == '=' ? 3 : 2));
        } else {
            out.emplace_back(argument);
        }
        only_words_follow |= argument == "--";
        std::string_view last = out.back();
        const auto* flag = last.starts_with("--") ? flag_named(last.substr(2)) : nullptr;
        bool value_follows = last == "-p" || last == "-c" || (flag && takes_value(*flag));
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

static Result<Duration> read_duration(std::string_view flag, const std::string& text) {
    auto duration = config::read_duration(text);
    if (!duration || *duration < 100ms || *duration > 24h)
        return fail(Error::of(
            format("--{}: expected a time from 100ms to 24h, found {}", flag, quoted(text)),
            "write 30s, 500ms or 2m"));
    return *duration;
}

static Result<> check_count(std::string_view flag, const std::string& text) {
    const bool is_number = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
    if (is_number && text.size() <= 9) return {};
    return fail(Error::of(format("--{}: expected a number, found {}", flag, quoted(text)),
                          "write how many"));
}

static std::string did_you_mean(std::string_view near) {
    return near.empty() ? try_help : format("did you mean {}? Otherwise {}", near, try_help);
}

static Error unknown_flag(const std::string& flag) {
    auto name = std::string_view(flag).substr(0, flag.find('='));
    std::vector<std::string> written;
    for (const auto& info : flag_infos) {
        if (info.letter) written.push_back(format("-{}", info.letter));
        if (info.name.size() > 1) written.push_back(format("--{}", info.name));
    }
    std::vector<std::string_view> flags(written.begin(), written.end());
    // Between single letters everything is near everything: guess only at words.
    auto near = name.size() > 2 ? nearest(name, flags) : std::string_view();
    return Error::of("unknown flag " + quoted(flag), did_you_mean(near));
}

static Result<const CommandInfo*> read_command(const std::vector<std::string>& words) {
    if (words.empty()) return &commands[0];
    const auto& word = words.front();
    if (word.ends_with(".toml"))
        return fail(Error::of("unknown command " + quoted(word), "name the file with -c " + word));
    const auto* found = std::ranges::find(commands, word, &CommandInfo::word);
    if (found == std::end(commands) || word.empty()) {
        std::vector<std::string_view> known;
        for (const auto& command : commands)
            if (!command.word.empty()) known.push_back(command.word);
        return fail(
            Error::of("unknown command " + quoted(word), did_you_mean(nearest(word, known))));
    }
    if (words.size() == found->count + 1) return found;
    if (found->command == Command::redirect && words[1] == "rules") return found;
    if (found->count == 0)
        return fail(Error::of(
            format("{} takes no argument, found {}", word, quoted(words[1])),
            word == "check" || word == "doctor" ? "name the file with -c FILE" : try_help));
    return fail(
        Error::of(format("{} takes {}, found {}", word, found->arguments,
                         words.size() == 1 ? "nothing" : format("{} words", words.size() - 1)),
                  try_help));
}

// ---- printing

std::string help_text() {
    std::string out =
        "Puts TCP ports of this host in front of healthy targets.\n\n"
        "Usage:\n"
        "  proxify [-b] [-p PORT] [-c FILE]\n"
        "  proxify COMMAND\n\n"
        "Commands, for the proxify that runs:\n";
    for (const auto& command : commands) {
        if (command.word.empty()) continue;
        auto usage = command.arguments.empty() ? std::string(command.word)
                                               : format("{} {}", command.word, command.arguments);
        if (usage.size() > 22)
            out += format("  {}\n  {:22}  {}\n", usage, "", command.help);
        else
            out += format("  {:22}  {}\n", usage, command.help);
    }
    out += "\nFlags:\n";
    for (const auto& flag : flag_infos) {
        auto letter = flag.letter ? format("-{}", flag.letter) : "  ";
        auto name = flag.name.size() > 1
                        ? format("{}{} --{}", letter, flag.letter ? "," : " ", flag.name)
                        : letter;
        if (!flag.value.empty()) name += format(" {}", flag.value);
        if (name.size() > 22)
            out += format("  {}\n  {:22}  {}\n", name, "", flag.help);
        else
            out += format("  {:22}  {}\n", name, flag.help);
    }
    return out +
           "\nExit codes: 0 done, 1 could not do what was asked, 2 wrong usage,\n"
           "3 only warnings (doctor).\n";
}

std::string_view version() {
    return PROXIFY_VERSION;
}

std::string version_text() {
    return format("proxify {}\n", version());
}

}  // namespace proxify::cli
