// SPDX-License-Identifier: Apache-2.0
#include "cli/doors.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/format.h"
#include "cli/rules.h"
#include "config/config.h"
#include "config/words.h"

namespace proxify::cli {
namespace {

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
            config::Complaint{format("{} is a range", config::quoted(text)), "write one port"});
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
            return fail(Error::of(
                format("--map: expected two ports, found {}", config::quoted(map)), form));
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

/// A file by the name that proxify cert has given it, here or in /etc/proxify.
std::string find_pem(const Options& options, const char* flag, std::string_view usual,
                     std::string_view ending) {
    namespace files = std::filesystem;
    std::error_code ignored;
    auto given = options.filters.find(flag);
    if (given != options.filters.end())
        return files::is_regular_file(given->second, ignored) ? given->second
                                                              : given->second + std::string(ending);
    const auto name = std::string(usual) + std::string(ending);
    const auto elsewhere = "/etc/proxify/" + name;
    return !files::exists(name, ignored) && files::exists(elsewhere, ignored) ? elsewhere : name;
}

/// Where its key is: behind --key, or beside it, or in the same file.
std::string find_key(const Options& options, const std::string& certificate) {
    if (auto given = options.filters.find("key"); given != options.filters.end())
        return given->second;
    std::error_code ignored;
    const auto beside = std::filesystem::path(certificate).replace_extension(".key").string();
    return std::filesystem::exists(beside, ignored) ? beside : certificate;
}

/// What goes into the tunnel, and what comes out of it.
constexpr auto mesh_services = R"(
[[service]]
name = "mesh-out"
targets = ["tunnel"]
health = false
timeouts = { connect = "3s" }

[[service]]
name = "mesh-in"
targets = ["original"]
health = false
timeouts = { connect = "2s" }
)";

Result<> add_port(File& file, const char* flag, uint16_t usual, std::string_view key) {
    auto given = file.options.filters.find(flag);
    if (given != file.options.filters.end())
        if (auto port = one_port(given->second); !port) return fail(wrong(flag, port.error()));
    file.line(key, given == file.options.filters.end() ? std::to_string(usual) : given->second);
    return {};
}

Result<> add_mesh(File& file) {
    const auto& options = file.options;
    const auto certificate = find_pem(options, "cert", "node", ".pem");
    const auto ca = find_pem(options, "ca", "mesh-ca", ".pem");
    std::error_code ignored;
    for (const auto& [flag, path] : {std::pair("cert", certificate), std::pair("ca", ca)})
        if (!std::filesystem::exists(path, ignored))
            return fail(Error::of(
                format("mesh needs certificates, and there is no {}", config::quoted(path)),
                format("name it with --{}, or make one:\n"
                       "proxify cert ca --out mesh-ca\n"
                       "proxify cert leaf --ca mesh-ca --san THIS-HOST'S-ADDRESS --out node",
                       flag)));
    const bool is_plain = file.has("fallback") && options.filters.at("fallback") == "plain";
    file.text += "[tunnel]\n";
    file.line("certificate", in_toml(certificate));
    file.line("key", in_toml(find_key(options, certificate)));
    file.line("ca", in_toml(ca));
    TRY(add_port(file, "tunnel-port", 18001, "port"));
    file.name("dial-address", "address");
    file.name("server-name", "server_name");
    file.names("allowed-name", "allowed_names");
    if (auto ports = options.lists.find("ports"); ports != options.lists.end()) {
        for (const auto& one : ports->second)
            if (auto range = config::read_ports(one); !range)
                return fail(wrong("ports", range.error()));
        file.names("ports", "ports");
    }
    if (file.has("fallback") && !is_plain && options.filters.at("fallback") != "refuse")
        return fail(Error::of(format("--fallback: expected refuse or plain, found {}",
                                     config::quoted(options.filters.at("fallback"))),
                              try_help));
    file.name("fallback", "fallback");
    if (auto hops = options.filters.find("max-hops"); hops != options.filters.end()) {
        const auto& text = hops->second;
        if (text.empty() || text.size() > 2 || text.find_first_not_of("0123456789") != text.npos)
            return fail(Error::of(format("--max-hops: expected a number from 1 to 16, found {}",
                                         config::quoted(text)),
                                  try_help));
        file.line("max_hops", text);
    }

    file.text += "[[capture]]\ntype = \"connect\"\nservice = \"mesh-out\"\n";
    TRY(add_port(file, "listen", 18000, "listen"));
    TRY(file.list("cidr", "cidr", config::read_destination));
    file.name("cgroup", "cgroup");
    file.names("exempt-cgroup", "exempt_cgroups");
    if (options.show_events) file.line("events", "true");
    // IPv6 is captured where it is named; nobody else has to see a listener for it.
    auto cidr = options.lists.find("cidr");
    const bool has_v6 = cidr != options.lists.end() &&
                        std::ranges::any_of(cidr->second, [](const std::string& text) {
                            auto place = config::read_destination(text);
                            return place && !place->prefix.ip.is_v4;
                        });
    if (!has_v6) file.line("address", "\"127.0.0.1\"");

    file.text += "[[capture]]\ntype = \"tunnel\"\nservice = \"mesh-in\"\n";
    TRY(add_port(file, "tunnel-port", 18001, "listen"));
    file.name("address", "address");
    file.text += mesh_services;
    return {};
}

}  // namespace

bool makes_config(Command command) {
    return command == Command::intercept || command == Command::ingress ||
           command == Command::redirect || command == Command::mesh;
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
                        : options.command == Command::mesh      ? "mesh"
                                                                : "ingress");
    if (options.command == Command::intercept) TRY(add_intercept(file));
    if (options.command == Command::ingress) TRY(add_ingress(file));
    if (options.command == Command::redirect) TRY(add_redirect(file));
    if (options.command == Command::mesh) TRY(add_mesh(file));
    if (auto config = config::parse(file.text, "the command line"); !config)
        return fail(std::move(config).error());
    return std::move(file.text);
}

}  // namespace proxify::cli
