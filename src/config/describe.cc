// SPDX-License-Identifier: Apache-2.0
// A Config in words, aligned for eyes. Nothing parses this.
#include <algorithm>

#include "base/count_text.h"
#include "base/format.h"
#include "config/config.h"
#include "config/names.h"
#include "config/words.h"

namespace proxify::config {
namespace {

/// Lines of "label   value"; further values go below the first, without a label.
class Page {
  public:
    Page(std::string indent, size_t label_width)
        : indent_(std::move(indent)), label_width_(label_width) {}
    void line(std::string_view label, std::string_view value) { lines_.emplace_back(label, value); }
    std::string text() const {
        std::string out;
        for (const auto& [label, value] : lines_)
            out += format("{}{:<{}}  {}\n", indent_, label, label_width_, value);
        return out;
    }
    /// Each label once, with all of its values.
    Settings settings() const {
        Settings out;
        for (const auto& [label, value] : lines_)
            if (label.empty() && !out.empty())
                out.back().second += "; " + value;
            else
                out.emplace_back(label, value);
        return out;
    }

  private:
    std::string indent_;
    size_t label_width_;
    Settings lines_;
};

void describe_ports(const Service& service, Page& page) {
    constexpr size_t width_max = 80, lines_max = 6;
    auto ranges = joined(service.ports);
    if (ranges.empty()) return page.line("ports", "none of its own");
    std::string_view label = "ports";
    std::string line;
    size_t lines = 0;
    for (size_t i = 0; i < ranges.size(); ++i) {
        auto [first, last] = ranges[i];
        auto word = first == last ? format("{}", first) : format("{}-{}", first, last);
        if (line.size() + word.size() > width_max) {
            page.line(std::exchange(label, ""), line);
            line.clear();
            if (++lines == lines_max)
                return page.line("", format("and {} more", ranges.size() - i));
        }
        line += word + (i + 1 < ranges.size() ? ", " : "");
    }
    page.line(label, line);
}

std::string describe_target(const TargetSpec& target, const Config& config) {
    std::string notes;
    auto note = [&](const std::string& text) { notes += (notes.empty() ? "" : "; ") + text; };
    if (target.port.kind == TargetPort::Kind::same) note("the port that was dialled");
    if (target.port.kind == TargetPort::Kind::offset)
        note(format("the port that was dialled, plus {}", target.port.value));
    if (target.port.is_tunnel())
        note(format("where the client aimed, through its port {}", target.port.value));
    else if (target.port.is_original())
        note("where the client aimed");
    if (target.weight != 1) note(format("weight {}", target.weight));
    if (target.priority != 0) note(format("priority {}", target.priority));
    if (target.backup) note("backup");
    if (target.max_connections != 0)
        note(format("at most {}",
                    count_text(static_cast<size_t>(target.max_connections), "connection")));
    if (target.srv) note("ports and weights from its SRV records");
    if (!target.ip) note(format("looked up again within {}", to_text(config.resolve_interval)));
    return notes.empty() ? target.text : format("{}  ({})", target.text, notes);
}

void describe_tls(const TlsSpec& tls, std::vector<std::string>& out) {
    if (!tls.name.empty()) out.push_back("name " + tls.name);
    if (tls.verify) out.push_back("certificate verified");
}

/// What a check does, in parts.
std::vector<std::string> describe_check(const Check& check) {
    if (auto* http = std::get_if<HttpCheck>(&check)) {
        std::vector<std::string> out{format("{} {}", http->method, http->path)};
        if (!http->host.empty()) out.push_back("host " + http->host);
        if (http->tls) {
            out.push_back("over TLS");
            describe_tls(*http->tls, out);
        }
        out.push_back("status " + listed(http->statuses));
        if (http->body) out.push_back("body with " + quoted(http->body->text()));
        return out;
    }
    if (auto* send = std::get_if<SendCheck>(&check)) {
        std::vector<std::string> out;
        if (!send->send.empty()) out.push_back("sends " + quoted(send->send));
        if (!send->expect.empty()) out.push_back("expects " + quoted(send->expect));
        if (send->expect_pattern)
            out.push_back("expects a match of " + quoted(send->expect_pattern->text()));
        return out;
    }
    if (auto* tls = std::get_if<TlsCheck>(&check)) {
        std::vector<std::string> out;
        describe_tls(tls->tls, out);
        out.push_back(
            format("warns when its certificate ends within {}", to_text(tls->expiry_warning)));
        return out;
    }
    if (auto* exec = std::get_if<ExecCheck>(&check)) {
        std::string words;
        for (const auto& word : exec->command)
            words += (words.empty() ? "" : " ") + printable(word);
        return {words};
    }
    return {};
}

void describe_health(const HealthSpec& health, Page& page) {
    if (!health.enabled) return page.line("health", "not checked; only real connections tell");
    std::string where, pace;
    if (health.address) where += " at " + health.address->text();
    if (health.port) where += format(" on port {}", *health.port);
    if (health.send_proxy) where += " with a PROXY header";
    if (health.fast_interval) pace += format(", {} in doubt", to_text(*health.fast_interval));
    if (health.down_interval) pace += format(", {} while down", to_text(*health.down_interval));
    auto type = name_of(static_cast<CheckType>(health.check.index()), check_type_names);
    page.line("health",
              format("{}{} every {}{}, timeout {}; {}up after {}, down after {}", type, where,
                     to_text(health.interval), pace, to_text(health.timeout),
                     health.initially_up ? "" : "down at first; ", health.rise, health.fall));
    std::string parts;
    for (const auto& part : describe_check(health.check))
        parts += (parts.empty() ? "" : "; ") + part;
    if (!parts.empty()) page.line("", parts);
}

std::string describe_timeouts(const Timeouts& timeouts) {
    const Timeouts usual;
    std::string out;
    auto add = [&](std::string_view name, Duration value, Duration usual_value) {
        if (value != usual_value)
            out += format("{}{} {}", out.empty() ? "" : ", ", name, to_text(value));
    };
    add("connect", timeouts.connect, usual.connect);
    add("idle", timeouts.idle, usual.idle);
    add("half-close", timeouts.half_close, usual.half_close);
    return out;
}

/// "10.0.0.0/8, 2001:db8::/32", or how many there are when they are many.
std::string describe_prefixes(const std::vector<Prefix>& prefixes) {
    constexpr size_t listed_max = 8;
    if (prefixes.size() > listed_max) return count_text(prefixes.size(), "prefix", "es");
    std::string out;
    for (const auto& prefix : prefixes) out += (out.empty() ? "" : ", ") + prefix.text();
    return out;
}

void describe_access(const Access& access, Page& page) {
    if (!access.allow.empty()) page.line("allow", describe_prefixes(access.allow));
    if (!access.deny.empty()) page.line("deny", describe_prefixes(access.deny));
}

std::string describe_limits(const Limits& limits) {
    std::string out;
    if (limits.source_sessions > 0)
        out = format("{} for each source at a time",
                     count_text(static_cast<size_t>(limits.source_sessions), "session"));
    if (limits.source_rate > 0)
        out += format("{}{} for each source in a second", out.empty() ? "" : ", ",
                      count_text(static_cast<size_t>(limits.source_rate), "connection"));
    return out;
}

/// How many at once, and what becomes of the others.
std::string describe_room(const Service& service) {
    std::string out;
    if (service.max_connections != 0)
        out = format("at most {}; ",
                     count_text(static_cast<size_t>(service.max_connections), "connection"));
    if (service.queue.size == 0) return out + "nobody waits";
    return out + format("{} may wait, for {}", service.queue.size, to_text(service.queue.timeout));
}

std::string describe_ejection(const Ejection& ejection) {
    if (!ejection.enabled) return "never";
    std::string why = count_text(static_cast<size_t>(ejection.failures), "failed connect");
    if (ejection.early_resets > 0)
        why += " or " + count_text(static_cast<size_t>(ejection.early_resets), "early reset");
    return format("after {} in a row, for {} to {}, at most {} % of targets", why,
                  to_text(ejection.time), to_text(ejection.max_time), ejection.max_share);
}

std::string describe_send_proxy(const SendProxy& send) {
    std::string out = format("a PROXY header, version {}", send.version), with;
    auto add = [&](const std::string& text) { with += (with.empty() ? "" : ", ") + text; };
    if (send.unique_id) add("unique id");
    if (send.tls) add("TLS");
    for (const auto& tlv : send.tlvs) add(format("0x{:X} {}", tlv.type, quoted(tlv.value)));
    return with.empty() ? out : format("{}, with {}", out, with);
}

/// What is told before the bytes of a client, by those in front of us and by us.
void describe_proxies(const Service& service, Page& page) {
    if (!service.accept_proxy.empty())
        page.line("header", "of PROXY, from " + describe_prefixes(service.accept_proxy));
    if (service.send_proxy) page.line("told", describe_send_proxy(*service.send_proxy));
}

/// What its streams go through: one line for each element.
void describe_bytes(const Service& service, Page& page) {
    std::string_view label = "filters";
    for (const auto& element : service.filters)
        page.line(std::exchange(label, ""), describe(element));
    if (service.chunk_size != Service{}.chunk_size)
        page.line("chunks", "of at most " + size_text(service.chunk_size));
    if (service.cache) page.line("cache", describe(*service.cache));
}

std::string describe_words(const std::vector<std::string>& words) {
    constexpr size_t listed_max = 4;
    std::string out;
    for (size_t i = 0; i < words.size() && i < listed_max; ++i)
        out += (i == 0 ? "" : ", ") + printable(words[i]);
    if (words.size() > listed_max) out += format(" and {} more", words.size() - listed_max);
    return out;
}

std::string describe_version(tls::Version least) {
    return least == tls::Version::tls_1_3 ? "TLS 1.3" : "TLS 1.2 or newer";
}

/// Whom it is for, or the file that says so.
std::string describe_identity(const tls::Identity& identity) {
    auto facts = tls::facts_of(identity.certificate);
    if (!facts || facts->names.empty()) return identity.certificate.name;
    return describe_words(facts->names.size() > 1 && facts->names.front() == facts->names.back()
                              ? std::vector(facts->names.begin(), facts->names.end() - 1)
                              : facts->names);
}

std::string describe(const Tls& tls) {
    const auto& settings = tls.settings;
    std::string out = "with clients: " + describe_version(settings.min_version);
    for (const auto& identity : settings.identities) out += ", " + describe_identity(identity);
    if (!settings.alpn.empty()) out += "; protocols " + describe_words(settings.alpn);
    if (settings.client_ca)
        out += format("; clients {} a certificate by {}",
                      settings.require_client_certificate ? "need" : "may show",
                      settings.client_ca->name);
    if (!settings.allowed_names.empty()) out += " for " + describe_words(settings.allowed_names);
    if (settings.crl) out += format(", not revoked in {}", settings.crl->name);
    if (tls.handshake_timeout != Tls{}.handshake_timeout)
        out += "; hands are shaken within " + to_text(tls.handshake_timeout);
    if (tls.max_handshakes != 0)
        out += format("; at most {} at once",
                      count_text(static_cast<size_t>(tls.max_handshakes), "handshake"));
    return out;
}

std::string describe(const TargetTls& tls) {
    const auto& settings = tls.settings;
    std::string out = "with targets: " + describe_version(settings.min_version);
    if (!tls.server_name.empty()) out += ", as " + printable(tls.server_name);
    if (settings.verify)
        out +=
            format("; verified by {}", settings.ca ? settings.ca->name : "this host's authorities");
    else
        out += "; not verified";
    if (!settings.allowed_names.empty()) out += " for " + describe_words(settings.allowed_names);
    if (settings.crl) out += format(", not revoked in {}", settings.crl->name);
    if (settings.identity) out += "; shown: " + describe_identity(*settings.identity);
    if (!settings.alpn.empty()) out += "; protocols " + describe_words(settings.alpn);
    return out;
}

void describe_settings(const Service& service, Page& page) {
    if (!service.sni.empty()) page.line("sni", describe_words(service.sni));
    if (service.balance != Balance::round_robin)
        page.line("balance", service.hash_balance_factor == 0
                                 ? std::string(name_of(service.balance, balance_names))
                                 : format("{}, at most {} % of the average for each target",
                                          name_of(service.balance, balance_names),
                                          service.hash_balance_factor));
    describe_health(service.health, page);
    if (auto timeouts = describe_timeouts(service.timeouts); !timeouts.empty())
        page.line("timeouts", timeouts);
    bool is_limited = service.max_connections != 0 ||
                      std::ranges::any_of(service.targets, [](const TargetSpec& target) {
                          return target.max_connections != 0;
                      });
    if (is_limited || service.queue != Queue{}) page.line("room", describe_room(service));
    if (service.slow_start != Duration::zero())
        page.line("returns", format("slow start over {}", to_text(service.slow_start)));
    if (service.ejection != Ejection{}) page.line("ejected", describe_ejection(service.ejection));
    if (service.panic != 0)
        page.line("panic", format("below {} % of targets, all are used", service.panic));
    if (service.on_down != OnDown::keep) page.line("on down", "connections are reset");
    if (service.tries != Service{}.tries) page.line("tries", std::to_string(service.tries));
    if (service.relay != RelayMode::automatic)
        page.line("relay", name_of(service.relay, relay_names));
    describe_access(service.access, page);
    if (service.on_deny != OnDeny::refuse)
        page.line("on deny", name_of(service.on_deny, on_deny_names));
    if (service.when_down != WhenDown::refuse)
        page.line("if down", name_of(service.when_down, when_down_names));
    if (auto limits = describe_limits(service.limits); !limits.empty()) page.line("limits", limits);
    if (service.count_ports) page.line("counted", "for each port");
    if (service.transparent) page.line("dialled", "from the client's own address");
    if (service.tls) page.line("tls", describe(*service.tls));
    if (service.target_tls) page.line(service.tls ? "" : "tls", describe(*service.target_tls));
    describe_proxies(service, page);
    describe_bytes(service, page);
}

std::string describe_service(const Service& service, const Config& config) {
    Page page("  ", 8);
    describe_ports(service, page);
    if (!service.addresses.empty()) page.line("only at", describe_prefixes(service.addresses));
    std::string_view label = "targets";
    for (const auto& target : service.targets)
        page.line(std::exchange(label, ""), describe_target(target, config));
    describe_settings(service, page);
    return format("service {}\n", service.name) + page.text();
}

std::string describe_places(const Capture& capture) {
    std::string out;
    auto add = [&](const std::string& text) { out += (out.empty() ? "" : ", ") + text; };
    auto port_text = [](uint16_t port) { return port ? format(" port {}", port) : std::string(); };
    for (const auto& one : capture.destinations) add(one.prefix.text() + port_text(one.port));
    for (const auto& one : capture.containers) add("container " + one.name + port_text(one.port));
    for (auto [first, last] : joined(capture.ports))
        add(first == last ? format("{}", first) : format("{}-{}", first, last));
    return out;
}

std::string describe_capture(const Capture& capture) {
    Page page("  ", 8);
    const auto places = describe_places(capture);
    if (capture.type == CaptureType::connect || capture.type == CaptureType::ingress)
        page.line("dialled", places.empty() ? "anything" : places);
    for (const auto& one : capture.from_containers) page.line("from", "container " + one.name);
    if (!capture.cgroup.empty()) page.line("from", "cgroup " + capture.cgroup);
    std::string ports;
    for (uint16_t port : capture.listen)
        ports += format("{}{}", ports.empty() ? "port " : ", ", port);
    page.line("goes to", capture.only_watch ? "where it was aimed; it is only seen"
                         : capture.proxy    ? "the proxy at " + capture.proxy->text()
                         : capture.to_port
                             ? format("port {} of this host", *capture.to_port)
                             : "proxify, on " + ports +
                                   (capture.address ? " at " + capture.address->text() : ""));
    if (!capture.service.empty()) page.line("service", capture.service);
    std::string interfaces;
    for (const auto& name : capture.interfaces)
        interfaces += (interfaces.empty() ? "" : ", ") + name;
    if (!interfaces.empty()) page.line("only on", interfaces);
    return format("capture {}\n", name_of(capture.type, capture_type_names)) + page.text();
}

std::string describe_tunnel(const Tunnel& tunnel) {
    Page page("  ", 8);
    page.line("shows", tunnel.identity.certificate.name);
    page.line("trusts", tunnel.ca.name);
    std::string_view label = "only";
    for (const auto& name : tunnel.allowed_names) page.line(std::exchange(label, ""), name);
    page.line("dials",
              format("port {}{}", tunnel.port,
                     tunnel.address ? " of " + tunnel.address->text() : " where the client aimed"));
    if (!tunnel.server_name.empty()) page.line("expects", tunnel.server_name);
    std::string ports;
    for (auto [first, last] : joined(tunnel.ports))
        ports += format("{}{}", ports.empty() ? "" : ", ",
                        first == last ? format("{}", first) : format("{}-{}", first, last));
    page.line("reached", ports.empty() ? "all ports but proxify's own" : "ports " + ports);
    if (tunnel.fallback == Fallback::plain)
        page.line("without", "a tunnel there, clients go in the clear");
    if (tunnel.max_hops != Tunnel{}.max_hops)
        page.line("at most",
                  count_text(static_cast<size_t>(tunnel.max_hops), "tunnel") + " in a row");
    return "tunnel\n" + page.text();
}

std::string describe_log(const Log& log) {
    return format("{}, {}", name_of(log.format, log_format_names),
                  name_of(log.level, log_level_names));
}

std::string describe_admin(const Admin& admin) {
    if (admin.socket.empty() && !admin.http) return "none";
    std::string out = admin.socket;
    if (!admin.socket.empty() && !admin.group.empty()) out += ", for group " + admin.group;
    if (admin.http)
        out += format("{}http://{}, to read", out.empty() ? "" : "; ", admin.http->text());
    return out;
}

}  // namespace

std::vector<PortRange> joined(std::vector<PortRange> ranges) {
    std::ranges::sort(ranges);
    std::vector<PortRange> out;
    for (auto range : ranges) {
        if (!out.empty() && out.back().last + 1 >= range.first)
            out.back().last = range.last;
        else
            out.push_back(range);
    }
    return out;
}

Settings settings_of(const Service& service) {
    Page page("", 0);
    describe_settings(service, page);
    return page.settings();
}

std::string describe(const Config& config) {
    Page page("", 15);
    page.line("listener", format("port {}, with -b", config.listen));
    page.line("default service", config.default_service
                                     ? config.services[*config.default_service].name
                                     : std::string("none"));
    page.line("drain timeout", to_text(config.drain));
    if (!config.user.empty())
        page.line("user", config.group.empty() ? config.user
                                               : format("{}, group {}", config.user, config.group));
    page.line("admin", describe_admin(config.admin));
    page.line("log", describe_log(config.log));
    describe_access(config.access, page);
    auto out = page.text() + "\n";

    size_t ports = 0, targets = 0;
    for (const auto& service : config.services) {
        out += describe_service(service, config) + "\n";
        ports += service.port_count();
        targets += service.targets.size();
    }
    for (const auto& capture : config.captures) out += describe_capture(capture) + "\n";
    if (config.tunnel) out += describe_tunnel(*config.tunnel) + "\n";
    return out + format("{}, {}, {}\n", count_text(config.services.size(), "service"),
                        count_text(targets, "target"), count_text(ports, "port"));
}

}  // namespace proxify::config
