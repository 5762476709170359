// SPDX-License-Identifier: Apache-2.0
// Streams with a codec, on a make-believe network that has every trouble there is.
#include "io/stream.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "io/sim/bytes.h"
#include "io/sim/world.h"
#include "support/catch.h"

using namespace proxify;
using io::Received;
using io::Stream;
using io::Task;
using io::sim::Script;
using io::sim::World;

namespace {

constexpr size_t block = 600;
constexpr std::byte mask{0x5a};

std::vector<std::byte> masked(std::span<const std::byte> bytes) {
    std::vector<std::byte> out(bytes.begin(), bytes.end());
    for (auto& one : out) one ^= mask;
    return out;
}

/// A cipher of blocks: nothing can be said of a part of one. It ends after so many.
class Blocks final : public Codec {
  public:
    explicit Blocks(size_t ends_after, size_t breaks_after = SIZE_MAX)
        : ends_after_(ends_after), breaks_after_(breaks_after) {}

    Opened open(std::span<const std::byte>& wire, std::span<std::byte> room,
                size_t& size) override {
        size = 0;
        while (room.size() - size >= block) {
            if (opened_ == ends_after_) return size > 0 ? Opened::bytes : Opened::ended;
            if (opened_ == breaks_after_) return size > 0 ? Opened::bytes : Opened::failed;
            const size_t count = std::min(block - part_.size(), wire.size());
            part_.insert(part_.end(), wire.begin(), wire.begin() + static_cast<ptrdiff_t>(count));
            wire = wire.subspan(count);
            if (part_.size() < block) break;
            std::ranges::copy(masked(part_), room.begin() + static_cast<ptrdiff_t>(size));
            size += block;
            part_.clear();
            ++opened_;
        }
        return size > 0 ? Opened::bytes : Opened::hungry;
    }

    int send(std::span<const std::byte> plain, Wire& wire) override {
        if (const int error = flush(wire); error < 0) return error;
        size_t taken = std::min(std::exchange(encoded_, 0), plain.size());
        while (taken < plain.size()) {
            const auto next = plain.subspan(taken, std::min(block, plain.size() - taken));
            owed_ = masked(next);
            if (const int error = flush(wire); error < 0) {
                encoded_ = next.size();
                return taken > 0 ? static_cast<int>(taken) : error;
            }
            taken += next.size();
        }
        return static_cast<int>(taken);
    }

    int finish(Wire& wire) override {
        if (!std::exchange(has_finished_, true)) owed_.assign(3, std::byte{0xff});
        return flush(wire);
    }
    bool has_finished() const override { return has_finished_; }

  private:
    int flush(Wire& wire) {
        while (!owed_.empty()) {
            const int sent = wire.send(owed_);
            if (sent < 0) return sent;
            owed_.erase(owed_.begin(), owed_.begin() + sent);
        }
        return 0;
    }

    size_t ends_after_, breaks_after_, opened_ = 0, encoded_ = 0;
    std::vector<std::byte> part_, owed_;
    bool has_finished_ = false;
};

/// What one end of a connection has heard, and how that ended.
struct Heard {
    std::vector<std::byte> bytes;
    int error = -1;
};

constexpr auto target = "203.0.113.9:80";

/// A connection to a target that follows a script.
struct Meeting {
    World world;
    io::Loop loop;

    Meeting(uint64_t seed, const io::sim::Faults& faults, const Script& script)
        : world(seed, faults), loop(*io::Ring::open({.buffers = 4, .buffer_size = 4096})) {
        world.may_change_bytes = true;
        world.put_target(Address::parse(target)->ip,
                         {.script = [script](auto&) { return script; }});
    }

    /// Runs `life` with a stream to the target, to the end of both.
    template <class Life>
    void run(Life life, std::unique_ptr<Codec> codec) {
        auto all = [&](Life& what, std::unique_ptr<Codec> with) -> Task<> {
            const int opened = loop.ring().open_stream(true);
            if (opened < 0) co_return;  // one of the troubles
            io::Socket socket(loop.ring(), static_cast<io::Handle>(opened));
            io::Connect connect(loop, socket, *Address::parse(target), 60s);
            if (const int error = co_await connect; error != 0) co_return;
            Stream stream(loop, std::move(socket));
            stream.encode_with(std::move(with), {});
            has_met = true;
            co_await what(stream);
            stream.stop();
            co_await stream.quiet();
        };
        loop.spawn(all(life, std::move(codec)));
        loop.stop();
        loop.run();
        world.settle();
        // What it is told here, no client has said.
        auto bugs = world.bugs();
        std::erase_if(bugs, [](const auto& bug) { return bug.ends_with("gets bytes of nobody"); });
        CHECK(bugs == std::vector<std::string>{});
    }

    /// What the target has said, decoded.
    std::vector<std::byte> said(size_t size) const {
        std::vector<std::byte> bytes(size);
        io::sim::fill_from_stream(world.connections().front().in.id, 0, bytes);
        return masked(bytes);
    }

    bool has_met = false;
};

io::sim::Faults troubles(uint64_t seed) {
    io::sim::Random random(seed);
    auto faults = io::sim::Faults::drawn(random);
    faults.no_socket = 0;
    return faults;
}

/// Hears everything; holds now and then, and puts a part back.
Task<> hear(Stream& stream, Heard& heard, bool is_fickle) {
    for (size_t i = 0;; ++i) {
        Received received;
        co_await stream.receive(received);
        if (received.chunk.empty()) {
            heard.error = received.error;
            co_return;
        }
        auto bytes = received.chunk.bytes();
        if (is_fickle && i % 3 == 0) stream.hold();
        if (is_fickle && i % 5 == 0 && bytes.size() > 1) bytes = bytes.first(bytes.size() / 2);
        heard.bytes.insert(heard.bytes.end(), bytes.begin(), bytes.end());
        received.chunk.consume(bytes.size());
        stream.put_back(std::move(received.chunk));
    }
}

}  // namespace

TEST_CASE("what comes through a codec comes whole and in order, whatever the network does") {
    for (uint64_t seed = 1; seed <= 300; ++seed) {
        INFO("seed " << seed);
        constexpr size_t size = 100 * block;
        Meeting meeting(seed, troubles(seed), {.says = size});
        Heard heard;
        auto life = [&](Stream& stream) { return hear(stream, heard, seed % 2 == 0); };
        meeting.run(life, std::make_unique<Blocks>(100));
        if (!meeting.has_met) continue;
        CHECK(heard.error == 0);
        CHECK(heard.bytes == meeting.said(size));
    }
}

TEST_CASE("what a codec sends arrives once and in order, also where the wire is full") {
    std::vector<std::byte> text(50'000);
    for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::byte>(i * 7 / 3);
    for (uint64_t seed = 1; seed <= 300; ++seed) {
        INFO("seed " << seed);
        Meeting meeting(seed, troubles(seed), {.window = 2000});
        auto life = [&](Stream& stream) -> Task<> {
            std::span<const std::byte> left = text;
            while (!left.empty()) {
                // Others than before may be behind them, or fewer in all but these.
                const int sent = stream.send_now(left.first(std::min<size_t>(left.size(), 1700)));
                if (sent == -EAGAIN) {
                    if (!co_await stream.writable()) co_return;
                } else if (sent < 0) {
                    co_return;
                } else {
                    left = left.subspan(static_cast<size_t>(sent));
                }
            }
            while (stream.shutdown_write() == -EAGAIN)
                if (!co_await stream.writable()) co_return;
        };
        meeting.run(life, std::make_unique<Blocks>(SIZE_MAX));
        if (!meeting.has_met) continue;
        auto expected = masked(text);
        expected.insert(expected.end(), 3, std::byte{0xff});
        CHECK(meeting.world.connections().front().out.kept == expected);
    }
}

TEST_CASE("an end in the middle is a failure, but to who has ended first") {
    auto ending = [](size_t says, std::unique_ptr<Codec> codec, bool finishes) {
        Meeting meeting(1, {}, {.says = says});
        Heard heard;
        auto life = [&](Stream& stream) -> Task<> {
            if (finishes) stream.shutdown_write();
            co_await hear(stream, heard, false);
            // It stays so.
            Received again;
            co_await stream.receive(again);
            CHECK(again.chunk.empty());
            CHECK(again.error == heard.error);
        };
        meeting.run(life, std::move(codec));
        CHECK(heard.bytes == meeting.said(says / block * block));
        return heard.error;
    };
    CHECK(ending(10 * block, std::make_unique<Blocks>(10), false) == 0);
    CHECK(ending(10 * block, std::make_unique<Blocks>(11), false) == ENODATA);
    CHECK(ending(10 * block - 1, std::make_unique<Blocks>(10), false) == ENODATA);
    CHECK(ending(10 * block, std::make_unique<Blocks>(11), true) == 0);
    CHECK(ending(10 * block, std::make_unique<Blocks>(11, 10), false) == EBADMSG);
}

TEST_CASE("a stream with a codec that is stopped says so, with bytes or without") {
    for (const size_t says : {size_t{0}, block / 2, 3 * block}) {
        Meeting meeting(1, {}, {.says = says, .ends = Script::Ends::never});
        Heard heard;
        auto life = [&](Stream& stream) -> Task<> {
            io::Deadline deadline(meeting.loop, stream);
            deadline.begin(1s);
            co_await hear(stream, heard, true);
            CHECK(deadline.has_passed());
        };
        meeting.run(life, std::make_unique<Blocks>(SIZE_MAX));
        CHECK(heard.error == ECANCELED);
        CHECK(heard.bytes == meeting.said(says / block * block));
    }
}

TEST_CASE("what comes when nobody asks is left to who sends it, but for a little") {
    Meeting meeting(1, {}, {.says = 1 << 20, .step = 65536, .window = 65536});
    Heard heard;
    uint64_t read = 0;
    auto life = [&](Stream& stream) -> Task<> {
        Received received;
        co_await stream.receive(received);
        stream.put_back(std::move(received.chunk));
        co_await meeting.loop.sleep(10s);
        read = meeting.world.connections().front().in.read;
        co_await hear(stream, heard, false);
    };
    meeting.run(life, std::make_unique<Blocks>((1 << 20) / block));
    CHECK(read <= 8 * 4096);
    CHECK(heard.bytes == meeting.said((1 << 20) / block * block));
}
