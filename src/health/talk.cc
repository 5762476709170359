// SPDX-License-Identifier: Apache-2.0
#include "health/talk.h"

#include <cstring>

#include "base/format.h"
#include "proxy_header/header.h"

namespace proxify::health {

using namespace io;

Outcome failed_with(int error, const Probe& probe) {
    if (probe.ended()) error = probe.ended();
    if (dial::ran_out(error) || error == EAGAIN)
        return {.is = Outcome::Is::unknown, .reason = std::strerror(error)};
    switch (error) {
        case 0:
            return Outcome::good();
        case ETIMEDOUT:
            return Outcome::bad(
                format("no answer to a check within {}", to_text(probe.spec.timeout)));
        case ELOOP:
            return Outcome::bad("it is proxify itself, which listens there");
        default:
            return Outcome::bad(format("check failed: {}", std::strerror(error)));
    }
}

Task<int> Talk::connect() {
    Loop& loop = probe_.common.loop;
    const Address& to = probe_.subject.address;
    if (probe_.ended()) co_return probe_.ended();
    probe_.interrupt = [this] { attempt_.cancel(); };
    int error = co_await dial::dial(loop, probe_.common.guard,
                                    {.to = to, .is_local = dial::is_local(loop.ring(), to.ip)},
                                    probe_.spec.timeout, attempt_);
    probe_.interrupt = nullptr;
    if (attempt_.socket) attempt_.socket.reset_on_close();
    if (error == 0 && probe_.spec.send_proxy) error = co_await send_plainly(header());
    co_return error == ECANCELED ? probe_.ended() : error;
}

/// Nobody is behind a check: that is LOCAL in version 2 and UNKNOWN in version 1.
std::string Talk::header() const {
    const proxy_header::Header local{.is_local = true};
    return probe_.spec.send_proxy == 1 ? proxy_header::version_1(local)
                                       : proxy_header::version_2(local);
}

Task<int> Talk::send(std::string_view bytes) {
    if (!tls_) co_return co_await send_plainly(bytes);
    if (tls_->state() != tls::Client::State::open) co_return ECONNRESET;
    tls_->write(bytes);
    const std::string sealed = tls_->take_to_peer();
    co_return co_await send_plainly(sealed);
}

Task<int> Talk::send_plainly(std::string_view bytes) {
    if (!stream_) stream_.emplace(probe_.common.loop, std::move(attempt_.socket));
    while (!bytes.empty()) {
        if (probe_.ended()) co_return probe_.ended();
        int sent = stream_->send_now(std::as_bytes(std::span(bytes)));
        if (sent >= 0) {
            bytes.remove_prefix(static_cast<size_t>(sent));
        } else if (sent == -EAGAIN) {
            probe_.interrupt = [this] { stream_->stop(); };
            co_await stream_->writable();
            probe_.interrupt = nullptr;
        } else {
            co_return -sent;
        }
    }
    co_return 0;
}

/// What comes next, as it is on the wire; nothing more is ENODATA.
Task<int> Talk::receive_some(std::string& into) {
    if (!stream_) stream_.emplace(probe_.common.loop, std::move(attempt_.socket));
    if (probe_.ended()) co_return probe_.ended();
    // One piece at a time: the rest waits where it is.
    stream_->hold();
    Received received;
    probe_.interrupt = [this] { stream_->stop(); };
    co_await stream_->receive(received);
    probe_.interrupt = nullptr;
    if (probe_.ended()) co_return probe_.ended();
    if (received.error) co_return received.error;
    if (received.chunk.empty()) co_return ENODATA;
    auto bytes = received.chunk.bytes();
    into.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    co_return 0;
}

/// Nothing is known of a target then, so it keeps its state. Each check of each would say the same.
static void say_once(Common& common, const Error& error) {
    const std::string trouble =
        error.hint.empty() ? error.what : format("{} (hint: {})", error.what, error.hint);
    if (std::exchange(common.tls_trouble, trouble) == trouble) return;
    common.log.warn("tls_unavailable", "checks over TLS say nothing: " + trouble);
}

Task<int> Talk::secure(const config::TlsSpec& spec) {
    auto& contexts = probe_.common.tls;
    auto context = contexts.find(spec.verify);
    if (context == contexts.end()) {
        auto opened = tls::ClientContext::open(spec.verify);
        if (!opened) {
            say_once(probe_.common, opened.error());
            co_return ENOMEM;
        }
        context = contexts.emplace(spec.verify, std::move(*opened)).first;
    }
    tls_.emplace(context->second, spec.name.empty() ? probe_.subject.host : spec.name);

    using State = tls::Client::State;
    size_t received = 0;
    for (;;) {
        // Said even after a failure: it tells the target what was wrong with it.
        const std::string words = tls_->take_to_peer();
        int error = co_await send_plainly(words);
        if (tls_->state() == State::failed) co_return EPROTO;
        if (error) co_return error;
        if (tls_->state() != State::shaking_hands) co_return 0;

        std::string bytes;
        if ((error = co_await receive_some(bytes))) co_return error;
        received += bytes.size();
        if (received > 4 * answer_max) co_return EFBIG;
        tls_->feed(bytes);
    }
}

Outcome Talk::handshake_failed(int error) const {
    std::string why;
    if (error == EPROTO)
        why = tls_->error();
    else if (error == ENODATA)
        why = "the target ended the connection";
    else if (error == ECONNRESET || error == EPIPE)
        why = "the target reset the connection";
    else if (error == EFBIG)
        why = "it has no end";
    else
        return failed_with(error, probe_);
    return Outcome::bad("TLS handshake failed: " + why);
}

Task<int> Talk::receive_more() {
    if (!tls_) co_return co_await receive_some(answer_);
    for (;;) {
        if (std::string plain = tls_->take_plain(); !plain.empty()) {
            answer_ += plain;
            co_return 0;
        }
        if (tls_->state() == tls::Client::State::failed) co_return EPROTO;
        if (tls_->state() == tls::Client::State::ended) co_return ENODATA;
        std::string bytes;
        if (int error = co_await receive_some(bytes)) co_return error;
        tls_->feed(bytes);
    }
}

Task<int> Talk::receive_until(const std::function<bool(std::string_view)>& is_enough) {
    // To look at all of it again for each byte that drips in would cost the square of its
    // length. So after some looks the next one is when it has grown by an eighth, or is over.
    constexpr int eager_looks = 32;
    size_t next_look = 0;
    for (int looks = 0;;) {
        bool is_full = answer_.size() >= answer_max;
        if (!answer_.empty() && (is_full || answer_.size() >= next_look)) {
            if (is_enough(std::string_view(answer_).substr(0, answer_max))) co_return 0;
            if (is_full) co_return EFBIG;
            if (++looks >= eager_looks) next_look = answer_.size() + answer_.size() / 8;
        }
        int error = co_await receive_more();
        if (error == 0) continue;
        if (error != ECANCELED && is_enough(answer_)) co_return 0;
        co_return error;
    }
}

Task<> Talk::end() {
    if (!stream_) co_return;
    stream_->reset_on_close();
    stream_->stop();
    co_await stream_->quiet();
}

}  // namespace proxify::health
