// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/format.h"
#include "config/draft.h"
#include "config/fields.h"

namespace proxify::config {
namespace {

constexpr Name<tls::Version> version_names[] = {{"1.2", tls::Version::tls_1_2},
                                                {"1.3", tls::Version::tls_1_3}};
constexpr Name<std::string_view> other_versions[] = {
    {"1.0", "1.2"}, {"1.1", "1.2"}, {"TLSv1.2", "1.2"}, {"TLSv1.3", "1.3"}, {"tls1.3", "1.3"}};

/// One path, or several, of files that are read later.
std::vector<tls::Pem> read_paths(Fields& fields, std::string_view key) {
    std::vector<tls::Pem> files;
    auto* value = fields.find(key);
    if (!value) return files;
    for (const auto& one : one_or_many(*value)) {
        auto* text = one.as<std::string>();
        if (!text || text->empty() || text->size() > 4096 || text->contains('\0'))
            fields.expected(one, key, "the path of a file");
        else
            files.push_back({.name = *text, .text = {}});
    }
    return files;
}

void read_path(Fields& fields, std::string_view key, std::optional<tls::Pem>& out) {
    auto files = read_paths(fields, key);
    if (files.size() > 1)
        fields.expected(*fields.find(key), key, "the path of one file");
    else if (!files.empty())
        out = std::move(files.front());
}

Understood<std::string> read_protocol(std::string_view text) {
    if (text.empty() || text.size() > 255)
        return std::unexpected(
            Complaint{quoted(text) + " is not the name of a protocol", R"(like "h2")"});
    return std::string(text);
}

Understood<std::string> read_allowed(std::string_view text) {
    if (text.empty() || text.size() > 1024)
        return std::unexpected(Complaint{quoted(text) + " is no name in a certificate", {}});
    if (!text.starts_with("sha256:")) return std::string(text);
    std::string digits;
    for (char c : text.substr(7))
        if (c != ':') digits += c;
    const bool is_hex =
        std::ranges::all_of(digits, [](unsigned char c) { return std::isxdigit(c) != 0; });
    if (digits.size() != 64 || !is_hex)
        return std::unexpected(
            Complaint{quoted(text) + " is not a fingerprint of 64 hexadecimal digits",
                      "openssl x509 -noout -fingerprint -sha256 shows it"});
    return "sha256:" + digits;
}

/// What is written twice would be counted twice under one name.
void refuse_twice(Fields& fields, std::string_view key) {
    auto* value = fields.find(key);
    std::vector<std::string_view> seen;
    for (const auto& one : value ? one_or_many(*value) : std::span<const Value>()) {
        auto* text = one.as<std::string>();
        if (!text) continue;
        if (std::ranges::find(seen, *text) != seen.end())
            fields.problems().add(
                one.at, format("{}: {} is there twice", fields.label(key), quoted(*text)));
        seen.push_back(*text);
    }
}

/// Certificates and keys, in pairs; a key that is not named is in the file of its certificate.
std::vector<tls::Identity> read_identities(Fields& fields, std::string_view key) {
    auto certificates = read_paths(fields, key);
    auto keys = read_paths(fields, "key");
    if (!keys.empty() && keys.size() != certificates.size())
        fields.problems().add(
            fields.find("key")->at,
            format("{}: there are {} for {} certificates", fields.label("key"), keys.size(),
                   certificates.size()),
            "name one for each, in the same order, or none where a file has both");
    keys.resize(certificates.size());
    std::vector<tls::Identity> identities;
    for (size_t i = 0; i < certificates.size(); ++i)
        identities.push_back({.certificate = certificates[i],
                              .key = keys[i].name.empty() ? certificates[i] : keys[i]});
    return identities;
}

}  // namespace

void read_tls(const Value& value, DraftService& draft, Problems& problems) {
    auto* table = value.as<Table>();
    if (!table)
        return expected(value, "tls", R"(a table like { certificates = "site.pem" })", problems);
    Fields fields(*table, tls_section, problems);
    Tls tls;
    auto& settings = tls.settings;
    settings.identities = read_identities(fields, "certificates");
    auto* certificates = fields.find("certificates");
    if (!certificates || one_or_many(*certificates).empty())
        problems.add(value.at, "tls.certificates: there is none",
                     R"(add the path of a file in PEM: certificates = "site.pem")");
    fields.choice("min_version", version_names, settings.min_version, other_versions);
    fields.words("alpn", read_protocol, settings.alpn);
    read_path(fields, "client_ca", settings.client_ca);
    fields.flag("require_client_certificate", settings.require_client_certificate);
    read_path(fields, "crl", settings.crl);
    fields.words("allowed_names", read_allowed, settings.allowed_names);
    refuse_twice(fields, "allowed_names");
    refuse_twice(fields, "certificates");
    fields.duration("handshake_timeout", {}, tls.handshake_timeout);
    fields.count("max_handshakes", {1, connections_max}, tls.max_handshakes);
    for (std::string_view key : {"require_client_certificate", "crl", "allowed_names"})
        if (auto* one = fields.find(key); one && !fields.find("client_ca"))
            problems.add(one->at, format("tls.{}: nobody vouches for clients", key),
                         R"(add the authority that does: client_ca = "ca.pem")");
    draft.tls_at = value.at;
    draft.service.tls = std::move(tls);
}

void read_target_tls(const Value& value, DraftService& draft, Problems& problems) {
    TargetTls tls;
    draft.target_tls_at = value.at;
    if (auto* wanted = value.as<bool>()) {
        if (*wanted) draft.service.target_tls = tls;
        return;
    }
    auto* table = value.as<Table>();
    if (!table)
        return expected(value, "target_tls", R"(true, or a table like { ca = "ca.pem" })",
                        problems);
    Fields fields(*table, target_tls_section, problems);
    auto& settings = tls.settings;
    fields.flag("verify", settings.verify);
    read_path(fields, "ca", settings.ca);
    read_path(fields, "crl", settings.crl);
    fields.text("server_name", 255, tls.server_name);
    auto identities = read_identities(fields, "certificate");
    if (identities.size() > 1)
        fields.expected(*fields.find("certificate"), "certificate", "the path of one file");
    if (!identities.empty()) settings.identity = std::move(identities.front());
    fields.choice("min_version", version_names, settings.min_version, other_versions);
    fields.words("alpn", read_protocol, settings.alpn);
    fields.words("allowed_names", read_allowed, settings.allowed_names);
    if (!settings.verify)
        for (std::string_view key : {"ca", "crl", "allowed_names"})
            if (auto* one = fields.find(key))
                problems.add(one->at, format("target_tls.{}: verify = false, so nothing is", key),
                             "take out one of the two");
    draft.service.target_tls = std::move(tls);
}

void read_tunnel(const Table& table, Draft& draft, Problems& problems) {
    Fields fields(table, tunnel_section, problems);
    Tunnel tunnel;
    auto identities = read_identities(fields, "certificate");
    if (identities.size() > 1)
        fields.expected(*fields.find("certificate"), "certificate", "the path of one file");
    if (!identities.empty()) tunnel.identity = std::move(identities.front());
    std::optional<tls::Pem> ca;
    read_path(fields, "ca", ca);
    if (ca) tunnel.ca = *std::move(ca);
    for (std::string_view key : {"certificate", "ca"})
        if (!fields.find(key))
            problems.add(
                *draft.tunnel_at,
                format("tunnel.{}: there is none, and both ends of a tunnel need one", key),
                "proxify cert makes an authority and certificates; docs/mesh.md");
    fields.port("port", tunnel.port);
    if (auto* value = fields.find("address")) {
        auto* text = value->as<std::string>();
        tunnel.address = text ? Ip::parse(*text) : std::nullopt;
        if (!tunnel.address) fields.expected(*value, "address", "an IP address");
    }
    fields.text("server_name", 255, tunnel.server_name);
    fields.words("allowed_names", read_allowed, tunnel.allowed_names);
    std::vector<Position> at;
    fields.ports("ports", tunnel.ports, at);
    fields.choice("fallback", fallback_names, tunnel.fallback);
    fields.count("max_hops", {1, 16}, tunnel.max_hops);
    draft.config.tunnel = std::move(tunnel);
}

}  // namespace proxify::config
