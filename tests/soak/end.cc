// SPDX-License-Identifier: Apache-2.0
#include "soak/end.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/format.h"

namespace proxify::test::soak {

void Speech::fill(uint64_t offset, std::span<char> out) const {
    if (offset < opening.size()) {
        const size_t count = std::min<size_t>(opening.size() - offset, out.size());
        std::memcpy(out.data(), opening.data() + offset, count);
        out = out.subspan(count);
        offset += count;
    }
    if (!out.empty()) pattern.fill(offset - opening.size(), out);
}

std::optional<uint64_t> Speech::first_difference(uint64_t offset, std::string_view bytes) const {
    if (offset < opening.size()) {
        const size_t count = std::min<size_t>(opening.size() - offset, bytes.size());
        for (size_t i = 0; i < count; ++i)
            if (bytes[i] != opening[offset + i]) return offset + i;
        bytes.remove_prefix(count);
        offset += count;
    }
    auto at = pattern.first_difference(offset - opening.size(), bytes);
    if (at) *at += opening.size();
    return at;
}

End::End(Stream stream, std::string greeting, Moment at) : stream_(std::move(stream)), born_(at) {
    out_.length = greeting.size();
    out_.opening = std::move(greeting);
}

void End::assign(Speech out, Speech in, const Manner& manner, Random random) {
    out_ = std::move(out), in_ = std::move(in), manner_ = manner, random_ = random;
    received_ = heard_number_.size();
    assigned_ = true;
    if (manner_.receive_buffer)
        setsockopt(fd(), SOL_SOCKET, SO_RCVBUF, &*manner_.receive_buffer, sizeof(int));
}

std::optional<uint64_t> End::number() const {
    if (heard_number_.size() < introduction) return std::nullopt;
    uint64_t number = 0;
    std::memcpy(&number, heard_number_.data(), introduction);
    return number;
}

Moment End::after_a_pause(Moment at) {
    if (!random_.chance(manner_.pause_percent)) return at;
    return at + Millis(random_.between(1, static_cast<uint64_t>(manner_.pause_max.count())));
}

bool End::may_write() const {
    if (write_ended_) return false;
    if (!assigned_) return sent_ < out_.length;
    return !manner_.speaks_last || sent_ < out_.opening.size() || read_ended_;
}

short End::events(Moment at) const {
    if (closed_) return 0;
    short wanted = 0;
    if (!read_ended_ && at >= read_pause_ && !manner_.never_reads) wanted |= POLLIN;
    if (may_write() && at >= write_pause_) wanted |= POLLOUT;
    return wanted;
}

void End::work(short ready, Moment at) {
    const short wanted = events(at);
    if (wanted & POLLOUT && ready & (POLLOUT | POLLERR | POLLHUP)) write(at);
    if (!closed_ && wanted & POLLIN && ready & (POLLIN | POLLERR | POLLHUP)) read(at);
    if (!closed_ && read_ended_ && (write_ended_ || !assigned_)) close();
}

void End::write(Moment at) {
    static std::vector<char> buffer(256 << 10);
    try {
        if (sent_ < out_.length) {
            const size_t size = std::min<uint64_t>(chunk_size(), out_.length - sent_);
            out_.fill(sent_, std::span(buffer).first(size));
            sent_ += stream_.send_some({buffer.data(), size});
            write_pause_ = after_a_pause(at);
        }
        if (sent_ == out_.length && assigned_) {
            stream_.finish();
            write_ended_ = finished_ = true;
        }
    } catch (const StreamError& error) {
        // What came before the reset can still be read.
        write_ended_ = saw_reset_ = true;
        if (manner_.never_reads) close();
    }
}

void End::read(Moment at) {
    static std::vector<char> buffer(256 << 10);
    const size_t most = assigned_ ? chunk_size() : introduction - heard_number_.size();
    const ssize_t count = recv(fd(), buffer.data(), most, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        // The kernel tells of a reset once, and of an end from then on.
        if (count < 0)
            saw_reset_ = true;
        else if (!saw_reset_)
            saw_end_ = true;
        read_ended_ = true;
        if (saw_reset_) close();
        return;
    }
    const std::string_view bytes(buffer.data(), static_cast<size_t>(count));
    if (!assigned_) {
        heard_number_ += bytes;
        return;
    }
    if (auto wrong = in_.first_difference(received_, bytes))
        problem_ = format("byte {} is not the one that was sent", *wrong);
    received_ += bytes.size();
    if (received_ > in_.length)
        problem_ = format("{} bytes came of {} that there are", received_, in_.length);
    if (!problem_.empty()) return close();
    read_pause_ = after_a_pause(at);
    if (received_ >= manner_.stalls_after && !std::exchange(has_stalled_, true))
        read_pause_ = at + manner_.stall;
}

void End::cut_if_due(Moment at) {
    const Cut& plan = manner_.cut;
    if (closed_ || plan.how == Cut::How::never) return;
    if (sent_ + received_ >= plan.after_bytes || at >= born_ + plan.after) cut(plan.how);
}

void End::cut(Cut::How how) {
    if (closed_) return;
    cut_ = true;
    // A close sends an end after the last byte, or a reset if there was something to read.
    if (how == Cut::How::close) finished_ = true;
    if (how == Cut::How::reset) stream_.reset();
    close();
}

void End::close() {
    stream_.close();
    closed_ = true;
}

std::string End::text() const {
    return format("sent {} of {}{}, received {} of {}{}{}{}", sent_, out_.length,
                  finished_ ? " and the end" : "", received_, in_.length,
                  saw_end_ ? " and the end" : "", saw_reset_ ? ", was reset" : "",
                  cut_      ? ", left early"
                  : closed_ ? ""
                            : ", goes on");
}

}  // namespace proxify::test::soak
