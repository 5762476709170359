// SPDX-License-Identifier: Apache-2.0
#include "config/words.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "base/format.h"

namespace proxify::config {

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// ---- durations

Understood<Duration> read_duration(std::string_view text) {
    struct Unit {
        std::string_view name;
        Duration size;
    };
    static constexpr Unit units[] = {{"h", 1h}, {"m", 1min}, {"s", 1s}, {"ms", 1ms}};
    // Numbers stop growing here: further than any key allows, and four of them still fit.
    constexpr Duration far_too_long = 24h * 1000;

    auto complaint = [&](std::string hint = {}) {
        return std::unexpected(Complaint{
            format(R"(expected a duration such as "250ms", "5s", "1m30s" or "1h", found {})",
                   quoted(text)),
            std::move(hint)});
    };
    Duration total{};
    size_t next_unit = 0, i = 0;
    do {
        auto digits_begin = i;
        int64_t count = 0;
        for (; i < text.size() && is_digit(text[i]); ++i)
            count = std::min<int64_t>(count * 10 + (text[i] - '0'), far_too_long / 1ms);
        if (i == digits_begin) return complaint();
        if (digits_begin == 0 && i == text.size())
            return complaint(
                format(R"(add a unit: "{}s" or "{}ms")", printable(text), printable(text)));

        auto name_begin = i;
        while (i < text.size() && is_letter(text[i])) ++i;
        auto name = text.substr(name_begin, i - name_begin);
        auto* unit = std::find_if(units + next_unit, std::end(units),
                                  [&](const Unit& known) { return known.name == name; });
        if (unit == std::end(units))
            return complaint("units are h, m, s and ms, each once, the largest first");
        total += std::min(count, far_too_long / unit->size) * unit->size;
        next_unit = static_cast<size_t>(unit - units) + 1;
    } while (i < text.size());
    return total;
}

// ---- sizes

static constexpr std::pair<std::string_view, int> size_units[] = {
    {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}};

/// What to write instead, where the unit is one of other programs, or has blanks before it.
static std::string hint_for_unit(uint64_t count, std::string_view unit) {
    unit.remove_prefix(std::min(unit.find_first_not_of(' '), unit.size()));
    if (unit.ends_with("/s")) unit.remove_suffix(2);
    std::string word(unit);
    for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    for (auto [name, bits] : size_units) {
        const char letter = static_cast<char>(std::tolower(name.front()));
        for (std::string_view end : {"", "b", "ib"})
            if (word == letter + std::string(end)) return format("write \"{}{}\"", count, name);
    }
    return {};
}

Understood<uint64_t> read_size(std::string_view text) {
    uint64_t count = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
    std::string_view unit(end, text.data() + text.size());
    for (auto [name, bits] : size_units)
        if (error == std::errc() && (unit == name || (unit.empty() && bits == 0)) &&
            count <= (uint64_t{1} << 50) >> bits)
            return count << bits;
    return std::unexpected(Complaint{
        format(R"(expected a number of bytes such as "512", "64KiB", "1MiB" or "2GiB", found {})",
               quoted(text)),
        error == std::errc() ? hint_for_unit(count, unit) : ""});
}

std::string size_text(uint64_t bytes) {
    for (auto [name, bits] : size_units)
        if (bytes != 0 && bytes % (uint64_t{1} << bits) == 0)
            return format("{}{}", bytes >> bits, name);
    return "0B";
}

// ---- ports

// Digits only: no sign, no spaces, no leading zero (which people read as octal, or as a typo).
static std::optional<uint16_t> read_port_number(std::string_view text) {
    uint16_t port = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    bool whole = error == std::errc() && end == text.data() + text.size();
    if (!whole || text.front() == '0') return std::nullopt;
    return port;
}

Understood<PortRange> read_ports(std::string_view text) {
    auto dash = text.find('-');
    auto first = read_port_number(text.substr(0, dash));
    auto last = dash == std::string_view::npos ? first : read_port_number(text.substr(dash + 1));
    if (!first || !last)
        return std::unexpected(Complaint{
            format(R"(expected a number from 1 to 65535 or a range like "5300-5399", found {})",
                   quoted(text)),
            {}});
    if (*first > *last)
        return std::unexpected(Complaint{format("the range {} ends before it begins", quoted(text)),
                                         format(R"(write "{}-{}")", *last, *first)});
    return PortRange{*first, *last};
}

// ---- targets

static std::optional<TargetPort> read_target_port(std::string_view text) {
    if (text == "*") return TargetPort{TargetPort::Kind::same, 0};
    bool added = text.starts_with('+');
    auto number = read_port_number(added ? text.substr(1) : text);
    if (!number) return std::nullopt;
    return TargetPort{added ? TargetPort::Kind::offset : TargetPort::Kind::fixed, *number};
}

// The names that DNS and /etc/hosts can hold, with the underscore that container networks use.
static bool is_host_name(std::string_view host) {
    if (host.ends_with('.')) host.remove_suffix(1);
    if (host.empty() || host.size() > 253) return false;
    while (true) {
        auto dot = host.find('.');
        auto label = host.substr(0, dot);
        if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-')
            return false;
        auto fits = [](char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '_'; };
        if (!std::ranges::all_of(label, fits)) return false;
        if (dot == std::string_view::npos) return true;
        host.remove_prefix(dot + 1);
    }
}

// "_http._tcp.name.example", as RFC 2782 writes the names of services. One label that begins with
// an underscore is a host's name in container networks.
static bool is_service_name(std::string_view host) {
    auto dot = host.find('.');
    return host.starts_with('_') && dot != std::string_view::npos &&
           host.substr(dot + 1).starts_with('_');
}

// No top-level domain is a number: what ends in one was meant to be an IPv4 address.
static bool looks_like_ipv4(std::string_view host) {
    if (host.ends_with('.')) host.remove_suffix(1);
    auto last_label = host.substr(host.rfind('.') + 1);
    return !last_label.empty() && std::ranges::all_of(last_label, is_digit);
}

Understood<std::string> read_server_name(std::string_view text) {
    auto complaint = [&](std::string_view why) {
        return std::unexpected(
            Complaint{format("{} {}", quoted(text), why),
                      R"(a name is "www.example.org", or "*.example.org" for any one label)"});
    };
    const auto host = text.starts_with("*.") ? text.substr(2) : text;
    if (host.contains('*')) return complaint("has a * that is not its whole first label");
    // RFC 6066, section 3: addresses are no names there.
    if (host.contains(':') || looks_like_ipv4(host))
        return complaint("is an address, for which no client asks by name");
    if (!is_host_name(host)) return complaint("is no name of a host");
    std::string name(text);
    for (char& c : name)
        if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    if (name.ends_with('.')) name.pop_back();
    return name;
}

static Understood<TargetSpec> read_service_target(std::string_view text) {
    auto complaint = [&](std::string_view why, std::string hint) {
        return std::unexpected(
            Complaint{format("target {} {}", quoted(text), why), std::move(hint)});
    };
    const auto name = text.substr(0, text.find(':'));
    if (name.size() < text.size())
        return complaint("is an SRV name with a port; its records say the ports",
                         format(R"(write "{}")", printable(name)));
    const auto protocol = name.substr(name.find('.') + 1);
    const auto domain = protocol.find('.');
    if (!is_host_name(name) || domain == std::string_view::npos || domain + 1 == protocol.size())
        return complaint("is no SRV name", R"(an SRV name is like "_http._tcp.name.example")");
    if (protocol.substr(0, domain) == "_udp")
        return complaint("is an SRV name for UDP, and proxify carries TCP",
                         R"(an SRV name for TCP is like "_http._tcp.name.example")");
    return TargetSpec{
        .text = std::string(text), .host = std::string(name), .ip = {}, .port = {}, .srv = true};
}

Understood<TargetSpec> read_target(std::string_view text) {
    auto complaint = [&](std::string why, std::string hint) {
        return std::unexpected(
            Complaint{format("target {} {}", quoted(text), why), std::move(hint)});
    };
    constexpr auto forms = R"(a target is "10.0.0.1:80", "[2001:db8::1]:80" or "name.example:80")";

    if (text == "original")
        return TargetSpec{.text = std::string(text),
                          .host = std::string(text),
                          .ip = Ip{},
                          .port = {.kind = TargetPort::Kind::original}};
    if (text == "tunnel")
        return TargetSpec{.text = std::string(text),
                          .host = std::string(text),
                          .ip = Ip{},
                          .port = {.kind = TargetPort::Kind::tunnel}};
    if (auto scheme = text.find("://"); scheme != std::string_view::npos)
        return complaint("is a URL", forms);
    if (is_service_name(text)) return read_service_target(text);
    if (Ip::parse(text) && text.find(':') != std::string_view::npos)
        return complaint("has no port", format(R"(write "[{}]:80")", text));

    auto colon = text.rfind(':');
    if (colon == std::string_view::npos || text.ends_with(']'))
        return complaint("has no port", text.empty() || text.size() > 80
                                            ? std::string(forms)
                                            : format(R"(write "{}:80")", printable(text)));
    auto host = text.substr(0, colon), port_text = text.substr(colon + 1);
    auto port = read_target_port(port_text);
    if (!port)
        return complaint(
            format("has {} where its port should be", quoted(port_text)),
            R"(a port is a number from 1 to 65535, "*" for the port that was dialled, or "+1000" for 1000 more)");

    bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) host = host.substr(1, host.size() - 2);
    auto ip = Ip::parse(host);
    bool has_colons = host.find(':') != std::string_view::npos;

    if (host.find('%') != std::string_view::npos)
        return complaint("has an interface in it", "addresses with %interface are not supported");
    if (ip && has_colons && !bracketed)
        return complaint("needs brackets around its IPv6 address",
                         format(R"(write "[{}]:{}")", host, port_text));
    if (bracketed && !(ip && has_colons))
        return complaint(format("has {} in brackets, which is not an IPv6 address", quoted(host)),
                         forms);
    if (!ip && looks_like_ipv4(host))
        return complaint(
            format("has {} for an address, which is not an IPv4 address", quoted(host)), forms);
    if (!ip && !is_host_name(host))
        return complaint(format("has {} for a host, which is no name and no address", quoted(host)),
                         forms);
    if (ip && (*ip == Ip::v4(0, 0, 0, 0) || *ip == Ip{.bytes = {}, .is_v4 = false}))
        return complaint("has the address that means \"any\"; nothing can be reached there",
                         R"(this host itself is "127.0.0.1" or "[::1]")");
    return TargetSpec{
        .text = std::string(text), .host = std::string(host), .ip = ip, .port = *port};
}

// ---- prefixes

Understood<Prefix> read_prefix(std::string_view text) {
    auto prefix = Prefix::parse(text);
    if (!prefix) {
        constexpr auto forms = R"("10.0.0.0/8", "2001:db8::/32" or "203.0.113.7")";
        return std::unexpected(
            Complaint{format("expected addresses such as {}, found {}", forms, quoted(text)), {}});
    }
    if (prefix->network() != *prefix)
        return std::unexpected(
            Complaint{format("{} has bits beyond the first {}", quoted(text), prefix->length),
                      format("write \"{}\", or \"{}\" for this address alone",
                             prefix->network().text(), prefix->ip.text())});
    return *prefix;
}

// ---- captures

/// What stands before the last colon and behind it; an IPv6 address with a port is in brackets.
struct HostAndPort {
    std::string_view host;
    std::optional<std::string_view> port = {};
};
static HostAndPort split_port(std::string_view text) {
    if (text.starts_with('[')) {
        auto end = text.find(']');
        if (end == text.npos) return {text};
        auto host = text.substr(1, end - 1), rest = text.substr(end + 1);
        if (rest.empty()) return {host};
        return rest.starts_with(':') ? HostAndPort{host, rest.substr(1)} : HostAndPort{text};
    }
    auto colon = text.find(':');
    if (colon == text.npos || colon != text.rfind(':')) return {text};
    return {text.substr(0, colon), text.substr(colon + 1)};
}

/// 0 when there is none.
static Understood<uint16_t> read_port_behind(std::string_view text, const HostAndPort& parts) {
    if (!parts.port) return uint16_t{0};
    if (auto port = read_port_number(*parts.port)) return *port;
    return std::unexpected(
        Complaint{format("{} has {} where its port should be", quoted(text), quoted(*parts.port)),
                  "a port is a number from 1 to 65535"});
}

Understood<Destination> read_destination(std::string_view text) {
    const auto parts = split_port(text);
    auto prefix = read_prefix(parts.host);
    if (!prefix) return std::unexpected(std::move(prefix).error());
    auto port = read_port_behind(text, parts);
    if (!port) return std::unexpected(std::move(port).error());
    return Destination{*prefix, *port};
}

Understood<ContainerSpec> read_container(std::string_view text) {
    const auto parts = split_port(text);
    const auto name = parts.host;
    auto fits = [](char c) {
        return is_letter(c) || is_digit(c) || c == '_' || c == '.' || c == '-';
    };
    if (name.empty() || name.size() > 255 || !std::ranges::all_of(name, fits))
        return std::unexpected(Complaint{format("{} is no name of a container", quoted(text)),
                                         R"(write "web", or "web:80" for this port alone)"});
    auto port = read_port_behind(text, parts);
    if (!port) return std::unexpected(std::move(port).error());
    return ContainerSpec{std::string(name), *port};
}

Understood<Address> read_proxy(std::string_view text) {
    constexpr auto forms = R"(write "203.0.113.9:8888" or "[2001:db8::9]:8888")";
    const auto parts = split_port(text);
    const auto ip = Ip::parse(parts.host);
    if (!parts.port)
        return std::unexpected(
            Complaint{format("expected an address and a port, found {}", quoted(text)), forms});
    if (!ip)
        return std::unexpected(Complaint{
            format("{} has {} for an address, which is none", quoted(text), quoted(parts.host)),
            forms});
    auto port = read_port_behind(text, parts);
    if (!port) return std::unexpected(std::move(port).error());
    return Address{*ip, *port};
}

// ---- what checks say and hear

static int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

Understood<StatusRange> read_statuses(std::string_view text) {
    auto read_status = [](std::string_view part) {
        int status = 0;
        auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), status);
        bool whole = error == std::errc() && end == part.data() + part.size();
        return whole && status >= 100 && status <= 599 ? status : 0;
    };
    auto dash = text.find('-');
    int first = read_status(text.substr(0, dash));
    int last = dash == std::string_view::npos ? first : read_status(text.substr(dash + 1));
    if (first == 0 || last == 0)
        return std::unexpected(Complaint{
            format(R"(expected a number from 100 to 599 or a range like "200-399", found {})",
                   quoted(text)),
            {}});
    if (first > last)
        return std::unexpected(Complaint{format("the range {} ends before it begins", quoted(text)),
                                         format(R"(write "{}-{}")", last, first)});
    return StatusRange{first, last};
}

Understood<std::string> read_hex(std::string_view text) {
    std::string bytes;
    for (size_t i = 0; i < text.size();) {
        if (text[i] == ' ') {
            ++i;
            continue;
        }
        int high = hex_digit(text[i]), low = i + 1 < text.size() ? hex_digit(text[i + 1]) : -1;
        if (high < 0 || low < 0) {
            bytes.clear();
            break;
        }
        bytes += static_cast<char>(16 * high + low);
        i += 2;
    }
    if (bytes.empty())
        return std::unexpected(Complaint{
            format(
                R"(expected bytes as pairs of hexadecimal digits, such as "50 49 4e 47", found {})",
                quoted(text)),
            {}});
    return bytes;
}

Understood<pattern::Pattern> read_pattern(std::string_view text) {
    auto compiled = pattern::Pattern::compile(text);
    if (compiled) return *std::move(compiled);
    return std::unexpected(Complaint{
        format("{} is not a regular expression: {}", quoted(text), printable(compiled.error())),
        "the syntax is RE2's: Perl's without what needs to look back"});
}

Understood<scan::Pattern> read_stream_pattern(std::string_view text) {
    auto compiled = scan::Pattern::compile(text);
    if (compiled) return *std::move(compiled);
    return std::unexpected(
        Complaint{format("{} cannot be looked for: {}", quoted(text), printable(compiled.error())),
                  "the syntax is Hyperscan's: Perl's without what needs to look back or ahead"});
}

// ---- text for messages

std::string listed(const std::vector<StatusRange>& ranges) {
    std::string out;
    for (auto [first, last] : ranges) {
        if (!out.empty()) out += ", ";
        out += first == last ? format("{}", first) : format("{}-{}", first, last);
    }
    return out;
}

std::string printable(std::string_view text, size_t bytes_max) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        auto byte = static_cast<unsigned char>(text[i]);
        bool continues_character = (byte & 0xC0) == 0x80;
        if (out.size() >= bytes_max && (!continues_character || out.size() >= bytes_max + 4))
            return out + "...";
        bool c1_control = byte == 0xC2 && i + 1 < text.size() && (text[i + 1] & 0xE0) == 0x80;
        if (byte < 0x20 || byte == 0x7F) {
            out += format("\\x{:02X}", byte);
        } else if (c1_control) {
            out += format("\\x{:02X}", static_cast<unsigned char>(text[++i]));
        } else {
            out += text[i];
        }
    }
    return out;
}

std::string quoted(std::string_view text) {
    return '"' + printable(text) + '"';
}

}  // namespace proxify::config
