// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cache/store.h"
#include "support/catch.h"

using namespace proxify;
using cache::Answer;
using cache::Lead;
using cache::Loss;
using cache::Reply;
using cache::Store;
using Kind = Reply::Kind;

namespace {

const Time begin{1h};

cache::Bytes bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}
std::string text_of(const Answer& answer) {
    return {reinterpret_cast<const char*>(answer->data()), answer->size()};
}

std::shared_ptr<Store> new_store(cache::Limits limits = {10s, 1 << 20, 1 << 20}) {
    return std::make_shared<Store>(limits, std::make_shared<stats::Cache>());
}

/// Somebody who asks, and waits if told so.
struct Asker : cache::Waiter {
    Asker(Store& its_store, std::string_view key, Time now = begin)
        : store(its_store), reply(store.ask(key, *this, now)), waits(reply.kind == Kind::wait) {}
    ~Asker() override {
        if (waits) store.leave(*this);
    }
    void wake() override { is_woken = true; }
    /// What it has been told since.
    Kind told() {
        waits = false;
        reply = store.leave(*this);
        return reply.kind;
    }
    /// The same, when it has waited as long as it may.
    Kind lost_patience() {
        waits = false;
        reply = store.lose_patience(*this);
        return reply.kind;
    }
    Store& store;
    bool is_woken = false;
    Reply reply;
    bool waits;
};

void fill(Store& store, std::string_view key, std::string_view text, Time now = begin) {
    Asker asker(store, key, now);
    REQUIRE(asker.reply.kind == Kind::lead);
    REQUIRE(asker.reply.lead.add(bytes_of(text)));
    asker.reply.lead.keep(now);
}

/// The answer that is kept, if any; a lead that comes of asking is given up.
std::optional<std::string> kept(Store& store, std::string_view key, Time now = begin) {
    Asker asker(store, key, now);
    if (asker.reply.kind != Kind::hit) return std::nullopt;
    return text_of(asker.reply.answer);
}

}  // namespace

TEST_CASE("an answer is kept for its request and for no other", "[P-49]") {
    auto store = new_store();
    std::string every_byte;
    for (int i = 0; i < 256; ++i) every_byte += static_cast<char>(i);
    fill(*store, every_byte, every_byte + every_byte);
    CHECK(kept(*store, every_byte) == every_byte + every_byte);
    for (size_t i = 0; i < every_byte.size(); ++i) {
        std::string other = every_byte;
        other[i] = static_cast<char>(other[i] ^ 1);
        CHECK(!kept(*store, other));
    }
    CHECK(!kept(*store, every_byte.substr(1)));
    CHECK(!kept(*store, every_byte + "x"));
    CHECK(store->entries() == 1);
}

TEST_CASE("an answer that came in pieces is the sum of them", "[P-49]") {
    auto store = new_store({10s, 100'000, 1 << 20});
    Asker leader(*store, "q");
    std::string all;
    for (int i = 0; all.size() + 777 <= 100'000; ++i) {
        const std::string piece(777, static_cast<char>('a' + i % 26));
        REQUIRE(leader.reply.lead.add(bytes_of(piece)));
        all += piece;
    }
    leader.reply.lead.keep(begin);
    CHECK(kept(*store, "q") == all);
}

TEST_CASE("an answer is as old as its ttl at most", "[P-49]") {
    auto store = new_store();
    fill(*store, "q", "old");
    CHECK(kept(*store, "q", begin + 9999ms) == "old");
    CHECK(!kept(*store, "q", begin + 10s));
    CHECK(store->bytes() == 0);
    fill(*store, "q", "new", begin + 11s);
    CHECK(kept(*store, "q", begin + 20s) == "new");
}

TEST_CASE("what was asked for longest ago makes room first", "[P-49]") {
    const uint64_t each = 1 + 1000 + Store::overhead;
    auto store = new_store({10s, 1000, 3 * each});
    const std::string text(1000, 'x');
    for (const char* key : {"a", "b", "c"}) fill(*store, key, text);
    CHECK(store->bytes() == 3 * each);
    CHECK(kept(*store, "a"));
    fill(*store, "d", text);
    CHECK(store->bytes() == 3 * each);
    CHECK(kept(*store, "a"));
    CHECK(kept(*store, "c"));
    CHECK(kept(*store, "d"));
    CHECK(store->stats()->evictions.value() == 1);
}

TEST_CASE("bytes that are still being sent count, and do not make way for nothing", "[P-49]") {
    const uint64_t each = 1 + 1000 + Store::overhead;
    auto store = new_store({10s, 1000, 2 * each});
    const std::string text(1000, 'x');
    fill(*store, "a", text);
    fill(*store, "b", text);
    std::optional<Asker> slow(std::in_place, *store, "a");
    REQUIRE(slow->reply.kind == Kind::hit);
    fill(*store, "c", text);  // in the place of b, though a is older
    CHECK(kept(*store, "a"));
    CHECK(!kept(*store, "b"));

    // It grows old while it is sent: forgotten, but its bytes are there still.
    CHECK(!kept(*store, "a", begin + 10s));
    CHECK(!kept(*store, "c", begin + 10s));
    CHECK(store->entries() == 0);
    CHECK(store->bytes() == 1000);
    slow.reset();
    CHECK(store->bytes() == 0);
}

TEST_CASE("answers on their way take room as well, and who finds none goes on alone", "[P-49]") {
    auto store = new_store({10s, 1000, 2000 + 2 * Store::overhead + 2});
    Asker first(*store, "a"), second(*store, "b");
    const std::string text(1000, 'x');
    REQUIRE(first.reply.lead.add(bytes_of(text)));
    REQUIRE(second.reply.lead.add(bytes_of(text)));
    Asker third(*store, "c");
    CHECK(third.reply.kind == Kind::alone);
    CHECK(store->stats()->no_room.value() == 1);
    first.reply.lead.keep(begin);
    Asker fourth(*store, "d");  // in the place of a
    REQUIRE(fourth.reply.kind == Kind::lead);
    second.reply.lead.keep(begin);
    CHECK(kept(*store, "b"));
}

TEST_CASE("an answer for which there is no room while it comes is given up", "[P-49]") {
    auto store = new_store({10s, 1000, 1500});
    Asker first(*store, "a"), second(*store, "b");
    REQUIRE(first.reply.lead.add(bytes_of(std::string(900, 'x'))));
    Asker waiting(*store, "b");
    REQUIRE(waiting.reply.kind == Kind::wait);
    CHECK_FALSE(second.reply.lead.add(bytes_of(std::string(900, 'x'))));
    CHECK_FALSE(second.reply.lead);
    CHECK(waiting.is_woken);
    CHECK(waiting.told() == Kind::alone);
    CHECK(store->stats()->no_room.value() == 1);
}

TEST_CASE("while one asks, the others wait and are given its answer", "[P-49]") {
    auto store = new_store();
    Asker leader(*store, "q");
    REQUIRE(leader.reply.kind == Kind::lead);
    Asker one(*store, "q"), two(*store, "q"), other(*store, "r");
    CHECK(one.reply.kind == Kind::wait);
    CHECK(two.reply.kind == Kind::wait);
    CHECK(other.reply.kind == Kind::lead);
    CHECK(store->waiting() == 2);
    REQUIRE(leader.reply.lead.add(bytes_of("answer")));
    CHECK_FALSE(one.is_woken);
    leader.reply.lead.keep(begin);
    CHECK(one.is_woken);
    CHECK(one.told() == Kind::hit);
    CHECK(two.told() == Kind::hit);
    CHECK(text_of(one.reply.answer) == "answer");
    CHECK(one.reply.answer == two.reply.answer);
    CHECK(store->waiting() == 0);
}

TEST_CASE("when the one who asks is gone, the next asks and the others wait on", "[P-49]") {
    auto store = new_store();
    auto leader = std::make_unique<Asker>(*store, "q");
    Asker one(*store, "q"), two(*store, "q"), three(*store, "q");
    REQUIRE(leader->reply.lead.add(bytes_of("half an ans")));
    leader.reset();
    CHECK(one.is_woken);
    CHECK_FALSE(two.is_woken);
    REQUIRE(one.told() == Kind::lead);
    REQUIRE(one.reply.lead.add(bytes_of("whole")));
    // Somebody who leaves the line is passed over, and so is who was to ask and has left.
    CHECK(two.told() == Kind::wait);
    one.reply.lead.give_up(Loss::cut_off);
    CHECK(three.told() == Kind::lead);
    three.reply = {};
    CHECK(store->bytes() == 0);
    CHECK(store->stats()->cut_off.value() == 3);
    fill(*store, "q", "whole");
}

TEST_CASE("who was to ask next and leaves hands that on", "[P-49]") {
    auto store = new_store();
    Asker leader(*store, "q");
    auto one = std::make_unique<Asker>(*store, "q");
    Asker two(*store, "q");
    leader.reply.lead.give_up(Loss::asked_more);
    CHECK(one->is_woken);
    one.reset();
    CHECK(two.is_woken);
    CHECK(two.told() == Kind::lead);
}

TEST_CASE("an answer that no store would keep is waited for by nobody", "[P-49]") {
    auto store = new_store({10s, 10, 1 << 20});
    SECTION("too long") {
        Asker leader(*store, "q"), one(*store, "q"), two(*store, "q");
        REQUIRE(leader.reply.lead.add(bytes_of("0123456789")));
        CHECK_FALSE(leader.reply.lead.add(bytes_of("x")));
        CHECK(one.told() == Kind::alone);
        CHECK(two.told() == Kind::alone);
        CHECK_FALSE(leader.reply.lead.add(bytes_of("y")));
        leader.reply.lead.keep(begin);
        CHECK(store->stats()->too_long.value() == 1);
    }
    SECTION("cut off by an element, which would do so each time") {
        Asker leader(*store, "q"), one(*store, "q"), two(*store, "q");
        REQUIRE(leader.reply.lead.add(bytes_of("012")));
        leader.reply.lead.give_up(Loss::closed);
        CHECK(one.is_woken);
        CHECK(two.is_woken);
        CHECK(one.told() == Kind::alone);
        CHECK(two.told() == Kind::alone);
        CHECK(store->stats()->closed.value() == 1);
        CHECK(store->stats()->cut_off.value() == 0);
        CHECK(Asker(*store, "q").reply.kind == Kind::lead);
    }
    SECTION("empty") {
        Asker leader(*store, "q"), one(*store, "q");
        leader.reply.lead.keep(begin);
        CHECK(one.told() == Kind::alone);
        CHECK(store->stats()->empty.value() == 1);
    }
    CHECK(store->entries() == 0);
    CHECK(store->bytes() == 0);
}

TEST_CASE("when one has waited too long nobody waits any more, until the answer is there",
          "[P-49]") {
    auto store = new_store();
    Asker leader(*store, "q"), other_leader(*store, "r");
    Asker one(*store, "q"), two(*store, "q"), three(*store, "q"), other(*store, "r");
    REQUIRE(leader.reply.lead.add(bytes_of("ans")));
    CHECK(two.lost_patience() == Kind::wait);
    CHECK_FALSE(two.is_woken);
    CHECK(one.is_woken);
    CHECK(one.told() == Kind::alone);
    CHECK(three.is_woken);
    CHECK(three.told() == Kind::alone);
    for (int i = 0; i < 3; ++i) CHECK(Asker(*store, "q").reply.kind == Kind::alone);
    CHECK_FALSE(other.is_woken);
    CHECK(Asker(*store, "r").reply.kind == Kind::wait);
    CHECK(store->waiting() == 1);

    SECTION("it comes whole") {
        REQUIRE(leader.reply.lead.add(bytes_of("wer")));
        leader.reply.lead.keep(begin);
        CHECK(kept(*store, "q") == "answer");
    }
    SECTION("it is cut off") {
        leader.reply.lead.give_up(Loss::cut_off);
        Asker next(*store, "q"), after(*store, "q");
        CHECK(next.reply.kind == Kind::lead);
        CHECK(after.reply.kind == Kind::wait);  // of the new one nobody knows that it is slow
    }
}

TEST_CASE("a waiter that goes away, or was told in its last moment, makes nobody slow", "[P-49]") {
    auto store = new_store();
    Asker leader(*store, "q");
    Asker gone(*store, "q"), next(*store, "q"), patient(*store, "q");
    CHECK(gone.told() == Kind::wait);
    CHECK_FALSE(next.is_woken);
    leader.reply.lead.give_up(Loss::cut_off);
    CHECK(next.lost_patience() == Kind::lead);
    CHECK_FALSE(patient.is_woken);
    CHECK(Asker(*store, "q").reply.kind == Kind::wait);
    next.reply.lead.give_up(Loss::too_long);
    CHECK(patient.lost_patience() == Kind::alone);
    CHECK(Asker(*store, "q").reply.kind == Kind::lead);
}

TEST_CASE("an answer outlives its store while somebody sends it", "[P-49]") {
    auto store = new_store();
    fill(*store, "q", "answer");
    Answer answer;
    {
        Asker asker(*store, "q");
        answer = asker.reply.answer;
    }
    store.reset();
    CHECK(text_of(answer) == "answer");
}

namespace {

/// One of many threads: waits for its turn as a session does.
struct Threaded : cache::Waiter {
    void wake() override {
        std::lock_guard lock(mutex);
        is_woken = true;
        woken.notify_one();
    }
    void wait() {
        std::unique_lock lock(mutex);
        woken.wait(lock, [&] { return is_woken; });
    }
    std::mutex mutex;
    std::condition_variable woken;
    bool is_woken = false;
};

}  // namespace

TEST_CASE("under load from many threads nobody is forgotten, and no bound is passed", "[P-49]") {
    constexpr int threads = 8, rounds = 4000, keys = 40;
    constexpr uint64_t max_size = 30 * 1024;
    auto store = new_store({1h, 2000, max_size});
    std::atomic<uint64_t> hits = 0, leads = 0, impatient = 0, wrong = 0, beyond = 0;
    std::array<std::atomic<int>, keys> asking{};
    {
        std::vector<std::jthread> all;
        for (int t = 0; t < threads; ++t)
            all.emplace_back([&, t] {
                uint32_t random = static_cast<uint32_t>(t) * 7919 + 1;
                for (int i = 0; i < rounds; ++i) {
                    random = random * 1664525 + 1013904223;
                    const auto number = random >> 16;
                    const size_t which = number % keys;
                    const std::string key = "key " + std::to_string(which);
                    const std::string text(100 + which * 40, static_cast<char>('A' + which));
                    Threaded waiter;
                    Reply reply = store->ask(key, waiter, begin);
                    if (reply.kind == Kind::wait && number % 17 == 0) {
                        reply = store->lose_patience(waiter);
                        if (reply.kind == Kind::wait) {
                            ++impatient;
                            continue;
                        }
                    } else if (reply.kind == Kind::wait) {
                        waiter.wait();
                        reply = store->leave(waiter);
                    }
                    if (store->bytes() > max_size) ++beyond;
                    if (reply.kind == Kind::wait) ++wrong;
                    if (reply.kind == Kind::hit) {
                        ++hits;
                        if (text_of(reply.answer) != text) ++wrong;
                    }
                    if (reply.kind != Kind::lead) continue;
                    ++leads;
                    if (++asking[which] != 1) ++wrong;
                    std::this_thread::yield();
                    --asking[which];
                    if (!reply.lead.add(bytes_of(text).first(50)) ||
                        !reply.lead.add(bytes_of(text).subspan(50)))
                        continue;
                    if (number % 5 != 0) reply.lead.keep(begin);
                }
            });
    }
    CHECK(wrong == 0);
    CHECK(beyond == 0);
    CHECK(hits > 0);
    CHECK(leads > 0);
    CHECK(impatient > 0);
    CHECK(store->stats()->evictions.value() > 0);
    CHECK(store->waiting() == 0);
    CHECK(store->bytes() <= max_size);
}
