// SPDX-License-Identifier: Apache-2.0
// The PROXY header that targets of a service with send_proxy get first: whom we carry.
#include <algorithm>

#include "base/format.h"
#include "secure/handshake.h"
#include "session/session.h"

namespace proxify::session {

using namespace io;
using proxy_header::Header;
using proxy_header::Tlv;

namespace {

void add_to(std::string& out, uint8_t type, std::string_view value) {
    if (value.empty()) return;
    out += static_cast<char>(type);
    out += static_cast<char>(value.size() >> 8 & 0xff);
    out += static_cast<char>(value.size() & 0xff);
    out += value;
}

/// The value of PP2_TYPE_SSL (section 2.2.6): flags, whether a certificate was verified, and then
/// TLVs of its own. A handshake with a certificate that is no good does not end, so one that was
/// shown is verified.
std::string ssl_value(const tls::Connection& agreed) {
    constexpr char has_tls = 0x01, has_certificate = 0x02, session_has_certificate = 0x04;
    constexpr uint8_t version = 0x21, cn = 0x22, cipher = 0x23;
    const auto peer = agreed.peer();
    std::string value(1, has_tls);
    if (peer) value[0] |= session_has_certificate | (agreed.is_resumed() ? 0 : has_certificate);
    value.append({0, 0, 0, peer ? '\0' : '\1'});
    add_to(value, version, agreed.version());
    if (peer) add_to(value, cn, peer->common_name);
    add_to(value, cipher, agreed.cipher());
    return value;
}

/// In the order of what may least be missing, should there not be room for all: see version_2().
std::vector<Tlv> make_tlvs(const config::SendProxy& spec, const tls::Connection* agreed,
                           const std::vector<Tlv>* heard, uint64_t session) {
    std::vector<Tlv> tlvs;
    auto add = [&](uint8_t type, std::string value) {
        if (!value.empty()) tlvs.push_back({type, std::move(value)});
    };
    for (const auto& tlv : spec.tlvs) tlvs.push_back({tlv.type, tlv.value});
    if (spec.tls && agreed) {
        add(proxy_header::ssl, ssl_value(*agreed));
        add(proxy_header::alpn, agreed->alpn());
        add(proxy_header::authority, agreed->server_name());
    }
    // What the proxy in front of us said goes on, but for what we know better, and the name that
    // its own host has for a network namespace.
    const size_t ours = tlvs.size();
    if (heard)
        for (const Tlv& tlv : *heard) {
            const auto known = std::span(tlvs).first(ours);
            if (tlv.type != proxy_header::netns && !std::ranges::count(known, tlv.type, &Tlv::type))
                tlvs.push_back(tlv);
        }
    // The first proxy on the way names the connection, so that all on it know it by one name.
    if (spec.unique_id && !std::ranges::count(tlvs, proxy_header::unique_id, &Tlv::type))
        tlvs.insert(tlvs.begin(), {proxy_header::unique_id, format("{}", session)});
    return tlvs;
}

}  // namespace

Header Session::header() const {
    const auto& spec = *service_->spec.send_proxy;
    Header header{.ends = proxy_header::Ends{record_.client, record_.original_dst}};
    if (spec.version == 2)
        header.tlvs = make_tlvs(spec, secure::connection_of(client_), heard_.get(), record_.id);
    return header;
}

Task<Ending> Session::send_header() {
    const bool is_first = service_->spec.send_proxy->version == 1;
    const std::string text =
        is_first ? proxy_header::version_1(header()) : proxy_header::version_2(header());
    for (auto rest = std::as_bytes(std::span(text)); !rest.empty();) {
        const int sent = target_->send_now(rest);
        if (sent == -EAGAIN) {
            if (!co_await target_->writable()) co_return Ending{};  // whoever stopped it says why
        } else if (sent < 0) {
            co_return Ending{Party::target, Stage::connect, "gone before its PROXY header", -sent};
        } else {
            rest = rest.subspan(static_cast<size_t>(sent));
        }
    }
    co_return Ending{};
}

}  // namespace proxify::session
