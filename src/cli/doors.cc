// SPDX-License-Identifier: Apache-2.0
#include "cli/doors.h"

#include <algorithm>
#include <cstdlib>

#include "base/format.h"
#include "cli/rules.h"
#include "config/config.h"
#include "config/words.h"

namespace proxify::cli {
namespace {

using config::quoted;

constexpr auto try_help = "try proxify --help";

Error wrong(std::string_view flag, const config::Complaint& complaint) {
    return Error::of(format("--{}: {}", flag, complaint.text),
                     complaint.hint.empty() ? try_help : complaint.hint);
}

std::string in_toml(std::string_view text) {
    std::string out = "\"";
    for (unsigned char c : text) {
        if (c == '"' || c == '\\')
            (out += '\\') += static_cast<char>(c);
        else if (c < 0x20 || c == 0x7f)
            out += format("\\u{:04x}", c);
        else
            out += static_cast<char>(c);
    }
    return out + "\"";
}

std::string in_toml(std::span<const std::string> words) {
    std::string out;
    for (const auto& word : words) out += (out.empty() ? "" : ", ") + in_toml(word);
    return "[" + out + "]";
}

/// The file that is being made.
struct File {
    const Options& options;
    std::string text = {};

    void line(std::string_view key, std::string_view value) {
        text += format("{} = {}\n", key, value);
    }

    /// A flag with any number of values, under this key.
    template <class T>
    Result<> list(const char* flag, std::string_view key,
                  config::Understood<T> (&read)(std::string_view)) {
        auto found = options.lists.find(flag);
        if (found == options.lists.end()) return {};
        for (const auto& word : found->second)
            if (auto understood = read(word); !understood)
                return fail(wrong(flag, understood.error()));
        names(flag, key);
        return {};
    }
    void names(const char* flag, std::string_view key) {
        auto found = options.lists.find(flag);
        if (found != options.lists.end()) line(key, in_toml(found->second));
    }
    void name(const char* flag, std::string_view key) {
        if (auto found = options.filters.find(flag); found != options.filters.end())
            line(key, in_toml(found->second));
    }
    bool has(const char* flag) const { return options.filters.contains(flag); }
};

config::Understood<config::PortRange> one_port(std::string_view text) {
    auto range = config::read_ports(text);
    if (range && range->first != range->last)
        return std::unexpected(
            config::Complaint{format("{} is a range", quoted(text)), "write one port"});
    return range;
}

/// Where connections go on to that proxify itself gets.
constexpr auto outbound = R"(
[[service]]
name = "outbound"
targets = ["original"{}]
health = false
)";

Result<> add_intercept(File& file) {
    const auto& options = file.options;
    file.text += "[[capture]]\ntype = \"connect\"\n";
    TRY(file.list("container", "containers", config::read_container));
    TRY(file.list("from-container", "from_containers", config::read_container));
    TRY(file.list("cidr", "cidr", config::read_destination));
    file.name("cgroup", "cgroup");
    file.names("exempt-cgroup", "exempt_cgroups");
    file.name("runtime", "runtime");
    if (options.show_events) file.line("events", "true");
    if (options.report_every)
        file.line("report_every", format("\"{}\"", to_text(*options.report_every)));
    if (file.has("proxy") && file.has("listen"))
        return fail(Error::of("--proxy and --listen say two things about who gets the connections",
                              "give one of them"));
    if (auto proxy = options.filters.find("proxy"); proxy != options.filters.end()) {
        if (auto understood = config::read_proxy(proxy->second); !understood)
            return fail(wrong("proxy", understood.error()));
        file.name("proxy", "proxy");
    } else if (auto listen = options.filters.find("listen"); listen != options.filters.end()) {
        if (auto port = one_port(listen->second); !port) return fail(wrong("listen", port.error()));
        file.line("listen", listen->second);
        file.line("service", "\"outbound\"");
        file.text += format(outbound, "");
    } else {
        file.line("only_watch", "true");
    }
    return {};
}

Result<> add_ingress(File& file) {
    constexpr auto form = "write --map 8000:9000";
    auto maps = file.options.lists.find("map");
    if (maps == file.options.lists.end())
        return fail(Error::of("ingress needs to know which port leads where", form));
    for (const auto& map : maps->second) {
        const auto colon = std::min(map.find(':'), map.size());
        const auto from = map.substr(0, colon);
        const auto to = colon < map.size() ? map.substr(colon + 1) : std::string();
        if (!one_port(from) || !one_port(to))
            return fail(
                Error::of(format("--map: expected two ports, found {}", quoted(map)), form));
        file.text +=
            format("[[capture]]\ntype = \"ingress\"\nports = [{}]\nto_port = {}\n", from, to);
        file.names("interface", "interfaces");
        file.name("hook", "hook");
    }
    return {};
}

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

Result<> add_redirect(File& file) {
    TRY(check_no_rules(file.options));
    file.text += "[[capture]]\ntype = \"redirect\"\nservice = \"outbound\"\n";
    if (auto ports = file.options.lists.find("ports"); ports != file.options.lists.end()) {
        std::string numbers;
        for (const auto& port : ports->second) {
            if (auto understood = one_port(port); !understood)
                return fail(wrong("ports", understood.error()));
            numbers += (numbers.empty() ? "" : ", ") + port;
        }
        file.line("ports", "[" + numbers + "]");
    }
    std::string fallback;
    if (const auto target = environment("TARGET_ADDR"); !target.empty()) {
        if (auto understood = config::read_target(target); !understood)
            return fail(
                Error::of("TARGET_ADDR: " + understood.error().text, understood.error().hint));
        fallback = format(", \"{}\"", target);
    }
    file.text += format(outbound, fallback);
    return {};
}

}  // namespace

bool makes_config(Command command) {
    return command == Command::intercept || command == Command::ingress ||
           command == Command::redirect;
}

Result<std::string> config_text(const Options& options) {
    File file{options};
    const auto level = environment("LOG_LEVEL"), form = environment("LOG_FORMAT");
    const bool is_redirect = options.command == Command::redirect;
    file.text += "[log]\n";
    const bool is_level = level == "debug" || level == "warn" || level == "error";
    file.line("level", is_redirect && is_level ? format("\"{}\"", level) : "\"info\"");
    file.line("format", options.json || (is_redirect && form == "json") ? "\"json\"" : "\"text\"");
    // Beside the proxify of the whole host, which has the usual one.
    file.text += format("[admin]\nsocket = \"/run/proxify/{}.sock\"\n",
                        is_redirect                             ? "redirect"
                        : options.command == Command::intercept ? "intercept"
                                                                : "ingress");
    if (options.command == Command::intercept) TRY(add_intercept(file));
    if (options.command == Command::ingress) TRY(add_ingress(file));
    if (options.command == Command::redirect) TRY(add_redirect(file));
    if (auto config = config::parse(file.text, "the command line"); !config)
        return fail(std::move(config).error());
    return std::move(file.text);
}

}  // namespace proxify::cli
