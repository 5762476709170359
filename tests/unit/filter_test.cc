// SPDX-License-Identifier: Apache-2.0
// The chain itself, with elements made for each question. What is built in is in
// filter_elements_test.cc.
#include "filter/chain.h"

#include <functional>
#include <optional>

#include "support/carrier.h"
#include "support/catch.h"

using namespace proxify;
using namespace proxify::filter;
using test::Carrier;

static constexpr auto to_target = Direction::to_target, to_client = Direction::to_client;

namespace {

/// An element that does what a test says.
struct Acting : Element {
    using See = std::function<Answer(Direction, std::string_view, Time, Buffer&)>;
    explicit Acting(See does, std::string last_words = {})
        : see_(std::move(does)), last_words_(std::move(last_words)) {}
    Answer see(Direction direction, Bytes bytes, Time now, Buffer& out) override {
        return see_(direction, text_of(bytes), now, out);
    }
    Answer end(Direction, Time, Buffer& out) override {
        append(out, bytes_of(last_words_));
        return {};
    }

  private:
    See see_;
    std::string last_words_;
};

/// Keeps back what has come until it is due, or all is at its end.
struct Keeping : Element {
    Answer see(Direction, Bytes bytes, Time now, Buffer&) override {
        append(kept, bytes);
        due = now + 10ms;
        return {.verdict = Verdict::change};
    }
    Answer end(Direction direction, Time now, Buffer& out) override {
        release(direction, now, out);
        return {};
    }
    Time holds_until(Direction) const override { return kept.empty() ? Time::max() : due; }
    void release(Direction, Time, Buffer& out) override {
        append(out, kept);
        kept.clear();
    }
    Buffer kept;
    Time due{};
};

Link link(std::string_view name, std::unique_ptr<Element> element, uint64_t head = everything) {
    return {.element = std::move(element), .name = name, .to_target = head, .to_client = head};
}
Link link(std::string_view name, Acting::See see, uint64_t head = everything,
          std::string last_words = {}) {
    return link(name, std::make_unique<Acting>(std::move(see), std::move(last_words)), head);
}

template <class... Links>
Carrier carrier(size_t chunk_size, Links... links) {
    std::vector<Link> all;
    (all.push_back(std::move(links)), ...);
    return Carrier(std::make_unique<Chain>(chunk_size, std::move(all), nullptr));
}

/// Puts `letter` behind each chunk.
Acting::See adds(char letter) {
    return [=](Direction, std::string_view bytes, Time, Buffer& out) {
        append(out, bytes_of(bytes));
        out.push_back(std::byte(letter));
        return Answer{.verdict = Verdict::change};
    };
}

/// Writes down what it is shown, and lets it pass.
Acting::See notes(std::vector<std::string>& seen) {
    return [&](Direction, std::string_view bytes, Time, Buffer&) {
        seen.emplace_back(bytes);
        return Answer{};
    };
}

/// Takes what it likes of a marker: "d" is dropped, the others pass.
Answer drops_d(Direction, std::string_view bytes, Time, Buffer&) {
    const bool is_dropped = bytes[0] == 'd';
    const size_t end = is_dropped ? bytes.find_first_not_of('d') : bytes.find('d');
    return {.verdict = is_dropped ? Verdict::drop : Verdict::pass,
            .taken = std::min(end, bytes.size())};
}

}  // namespace

TEST_CASE("elements come in the order of the file to the target, and in reverse to the client",
          "[X-13]") {
    auto chain = carrier(4096, link("a", adds('A')), link("b", adds('B')));
    chain.give(to_target, "x");
    chain.give(to_client, "y");
    CHECK(chain.got(to_target) == "xAB");
    CHECK(chain.got(to_client) == "yBA");
}

TEST_CASE("what is dropped reaches no later element, and the others go on", "[X-11][X-15]") {
    std::vector<std::string> before, after;
    auto chain = carrier(4096, link("before", notes(before)), link("drop", drops_d),
                         link("after", notes(after)));
    chain.give(to_target, "12ddd345d");
    chain.give(to_target, "dd");
    chain.give(to_target, "6");
    chain.end(to_target);
    CHECK(chain.got(to_target) == "123456");
    CHECK(before == std::vector<std::string>{"12ddd345d", "dd", "6"});
    CHECK(after == std::vector<std::string>{"12", "345", "6"});
    CHECK_FALSE(chain.is_closed);
}

TEST_CASE("bytes of which an element has failed to say anything go on, and it is told once",
          "[X-14]") {
    std::vector<std::string> told;
    std::vector<std::string> after;
    stats::Element stats;
    std::vector<Link> links;
    links.push_back(link("bad", [](Direction, std::string_view, Time, Buffer& out) {
        append(out, bytes_of("half of an answer"));
        return Answer{.verdict = Verdict::fail, .error = "it is out of order"};
    }));
    links[0].stats = &stats;
    links.push_back(link("after", notes(after)));
    Carrier chain(std::make_unique<Chain>(4096, std::move(links),
                                          [&](std::string_view element, const std::string& error) {
                                              told.push_back(std::string(element) + ": " + error);
                                          }));
    chain.give(to_target, "one");
    chain.give(to_target, "two");
    chain.give(to_client, "three");
    CHECK(chain.got(to_target) == "onetwo");
    CHECK(chain.got(to_client) == "three");
    CHECK(after == std::vector<std::string>{"one", "two", "three"});
    CHECK(told == std::vector<std::string>{"bad: it is out of order"});
    CHECK(stats.of(to_target).failed.value() == 2);
    CHECK(stats.of(to_client).failed.value() == 1);
    CHECK_FALSE(chain.is_closed);
}

TEST_CASE("an element that closes on error ends the session, and its bytes go nowhere", "[X-14]") {
    std::vector<Link> links;
    links.push_back(link("bad", [](Direction, std::string_view bytes, Time, Buffer&) {
        return bytes == "ok" ? Answer{} : Answer{.verdict = Verdict::fail, .error = "no"};
    }));
    links[0].closes_on_error = true;
    Carrier chain(std::make_unique<Chain>(4096, std::move(links), nullptr));
    chain.give(to_target, "ok");
    CHECK_FALSE(chain.is_closed);
    chain.give(to_target, "secret");
    CHECK(chain.is_closed);
    CHECK(chain.closed_by == "bad");
    CHECK(chain.reason == "an element failed");
    CHECK(chain.got(to_target) == "ok");
}

TEST_CASE("no element is shown more than a chunk, whatever came before it", "[X-16]") {
    std::vector<size_t> first, last;
    auto measures = [](std::vector<size_t>& sizes) {
        return [&](Direction, std::string_view bytes, Time, Buffer&) {
            sizes.push_back(bytes.size());
            return Answer{};
        };
    };
    auto doubles = [](Direction, std::string_view bytes, Time, Buffer& out) {
        append(out, bytes_of(bytes));
        append(out, bytes_of(bytes));
        return Answer{.verdict = Verdict::change};
    };
    auto chain = carrier(4096, link("first", measures(first)), link("double", doubles),
                         link("last", measures(last)));
    chain.give(to_target, std::string(10000, 'x'));
    CHECK(first == std::vector<size_t>{4096, 4096, 1808});
    CHECK(last == std::vector<size_t>{4096, 4096, 4096, 4096, 3616});
    CHECK(chain.got(to_target).size() == 20000);
}

TEST_CASE("an element may make more, less or nothing of what it is shown", "[X-17]") {
    auto stretches = [](Direction, std::string_view bytes, Time, Buffer& out) {
        // A digit says how often the letter behind it comes.
        size_t i = 0;
        for (; i + 1 < bytes.size(); i += 2)
            out.insert(out.end(), static_cast<size_t>(bytes[i] - '0'), std::byte(bytes[i + 1]));
        return Answer{.verdict = Verdict::change, .taken = i};
    };
    auto chain = carrier(4096, link("stretch", stretches));
    chain.give(to_target, "1a0b3c0d");
    CHECK(chain.got(to_target) == "accc");
    chain.give(to_target, "0x");
    CHECK(chain.got(to_target) == "accc");
    chain.give(to_target, "2z");
    CHECK(chain.got(to_target) == "accczz");
}

TEST_CASE("an element with a head sees so much of each direction, and the rest goes by") {
    std::vector<std::string> seen, later;
    auto chain = carrier(4, link("head", notes(seen), 6), link("later", notes(later)));
    chain.give(to_target, "abcdefghij");
    chain.give(to_client, "xyz");
    CHECK(seen == std::vector<std::string>{"abcd", "ef", "xyz"});
    CHECK(chain.got(to_target) == "abcdefghij");
    std::string all;
    for (const auto& piece : later) all += piece;
    CHECK(all == "abcdefghijxyz");
}

TEST_CASE("what an element keeps back comes out behind its head, and before the rest") {
    auto keeps = [](Direction, std::string_view, Time, Buffer&) {
        return Answer{.verdict = Verdict::drop};
    };
    auto chain = carrier(4096, link("head", keeps, 3, "<abc>"), link("b", adds('.')));
    chain.give(to_target, "abcdef");
    CHECK(chain.got(to_target) == "<abc>.def.");
    chain.end(to_target);
    CHECK(chain.got(to_target) == "<abc>.def.");
}

TEST_CASE("a direction of which nobody wants to see more is sated, and not before") {
    std::vector<std::string> seen;
    auto once = [](Direction, std::string_view, Time, Buffer&) {
        return Answer{.taken = 1, .has_enough = true};
    };
    auto chain = carrier(4096, link("once", once), link("head", notes(seen), 3));
    CHECK_FALSE(chain.flow(to_target).is_sated());
    chain.give(to_target, "ab");
    CHECK_FALSE(chain.flow(to_target).is_sated());
    chain.give(to_target, "cd");
    CHECK(chain.flow(to_target).is_sated());
    CHECK_FALSE(chain.flow(to_client).is_sated());
    CHECK(chain.got(to_target) == "abcd");
    CHECK(seen == std::vector<std::string>{"a", "b", "c"});

    Link one_way = link("one way", notes(seen));
    one_way.to_client = nothing;
    auto other = carrier(4096, std::move(one_way));
    CHECK(other.flow(to_client).is_sated());
    CHECK_FALSE(other.flow(to_target).is_sated());
}

TEST_CASE("while an element waits nothing overtakes, and nobody is asked twice") {
    std::vector<std::string> before, after;
    Time open = Time() + 5s;
    auto waits = [&](Direction, std::string_view, Time now, Buffer&) {
        if (now < open) return Answer{.verdict = Verdict::wait, .until = std::min(now + 1s, open)};
        return Answer{.taken = 2};
    };
    auto chain =
        carrier(4, link("before", notes(before)), link("gate", waits), link("after", notes(after)));
    Output out;
    Bytes input = bytes_of("abcdefg");
    auto& flow = chain.flow(to_target);
    auto progress = flow.run(input, Time(), out);
    REQUIRE(progress.state == Progress::State::wait);
    CHECK(progress.until == Time() + 1s);
    CHECK(out.empty());
    CHECK(text_of(input) == "efg");  // the others are still where they were

    progress = flow.run(input, Time() + 1s, out);
    CHECK(progress.state == Progress::State::wait);
    CHECK(before == std::vector<std::string>{"abcd"});
    progress = flow.run(input, open, out);
    CHECK(progress.state == Progress::State::hungry);
    CHECK(text_of(out.bytes()) == "abcdefg");
    CHECK(before == std::vector<std::string>{"abcd", "efg"});
    CHECK(after == std::vector<std::string>{"ab", "cd", "ef", "g"});
}

TEST_CASE("an element that waits first leaves all of the input where it is") {
    auto waits = [](Direction, std::string_view, Time now, Buffer&) {
        if (now == Time()) return Answer{.verdict = Verdict::wait, .until = Time() + 1s};
        return Answer{};
    };
    auto chain = carrier(4096, link("gate", waits));
    Output out;
    Bytes input = bytes_of("abc");
    CHECK(chain.flow(to_target).run(input, Time(), out).state == Progress::State::wait);
    CHECK(input.size() == 3);
    CHECK(chain.flow(to_target).run(input, Time() + 1s, out).state == Progress::State::hungry);
    CHECK(text_of(out.bytes()) == "abc");
}

namespace {

/// Closes at the first 'X'.
Answer closes_at_x(Direction, std::string_view bytes, Time, Buffer&) {
    if (bytes[0] == 'X') return {.verdict = Verdict::close, .reason = "there is an X"};
    return {.taken = std::min(bytes.find('X'), bytes.size())};
}

}  // namespace

TEST_CASE("what came before an element closed is delivered, and nothing behind it") {
    stats::Element stats;
    std::vector<std::string> after;
    Link closing = link("close", closes_at_x);
    closing.stats = &stats;
    auto chain =
        carrier(4096, link("a", adds('.')), std::move(closing), link("after", notes(after)));
    chain.give(to_target, "abcXdef");
    CHECK(chain.is_closed);
    CHECK(chain.closed_by == "close");
    CHECK(chain.reason == "there is an X");
    CHECK(chain.got(to_target) == "abc");
    CHECK(after == std::vector<std::string>{"abc"});
    CHECK(stats.of(to_target).closed.value() == 1);
    CHECK(stats.of(to_client).closed.value() == 0);
}

TEST_CASE("later elements let go what they keep back when an earlier one closes") {
    auto chain = carrier(4096, link("close", closes_at_x),
                         link("keep", std::make_unique<Keeping>()), link("b", adds('.')));
    chain.give(to_target, "ab");
    chain.give(to_target, "cdX");
    CHECK(chain.is_closed);
    CHECK(chain.got(to_target) == "abcd.");
}

TEST_CASE("earlier elements have nothing more to say when a later one has closed") {
    auto keeping = std::make_unique<Keeping>();
    auto chain = carrier(4096, link("keep", std::move(keeping)), link("a", adds('X')),
                         link("close", closes_at_x), link("b", adds('.')));
    chain.give(to_target, "ab");
    chain.let_pass(1s, to_target);
    CHECK(chain.is_closed);
    CHECK(chain.got(to_target) == "ab.");
    Output out;
    Bytes more = bytes_of("more");
    CHECK(chain.flow(to_target).run(more, Time(), out).state == Progress::State::closed);
    CHECK(chain.flow(to_target).finish(Time(), out).state == Progress::State::closed);
    CHECK(more.size() == 4);
    CHECK(out.empty());
}

TEST_CASE("an element may wait with what was before a close, and the close waits for it") {
    bool has_waited = false;
    auto gate = [&](Direction, std::string_view, Time now, Buffer&) {
        if (!std::exchange(has_waited, true))
            return Answer{.verdict = Verdict::wait, .until = now + 500ms};
        return Answer{.taken = 1};
    };
    auto chain = carrier(4096, link("close", closes_at_x),
                         link("keep", std::make_unique<Keeping>()), link("gate", gate));
    chain.give(to_target, "abX");
    CHECK(chain.is_closed);
    CHECK(chain.waited == 500ms);
    CHECK(chain.got(to_target) == "ab");
}

TEST_CASE("at the end each element lets go what it kept, behind what the ones before it kept") {
    auto chain =
        carrier(4096, link("a", std::make_unique<Keeping>()),
                link("b", std::make_unique<Keeping>()), link("c", adds('c'), everything, "!"));
    chain.give(to_target, "12");
    chain.give(to_target, "34");
    CHECK(chain.got(to_target).empty());
    chain.end(to_target);
    CHECK(chain.got(to_target) == "1234c!");
    chain.end(to_target);
    CHECK(chain.got(to_target) == "1234c!");
}

TEST_CASE("an element that closes at the end does so behind what it has let pass") {
    struct Judging : Element {
        Answer see(Direction, Bytes, Time, Buffer&) override { return {}; }
        Answer end(Direction, Time, Buffer&) override {
            return {.verdict = Verdict::close, .reason = "not like this"};
        }
    };
    auto chain = carrier(4096, link("judge", std::make_unique<Judging>()),
                         link("b", adds('.'), everything, "!"));
    chain.give(to_target, "ab");
    CHECK_FALSE(chain.is_closed);
    chain.end(to_target);
    CHECK(chain.is_closed);
    CHECK(chain.reason == "not like this");
    CHECK(chain.got(to_target) == "ab.!");
}

TEST_CASE("what is kept back is let go when it is due, later elements first") {
    auto chain = carrier(4096, link("a", std::make_unique<Keeping>()),
                         link("b", std::make_unique<Keeping>()));
    CHECK(chain.flow(to_target).holds_until() == Time::max());
    chain.give(to_target, "1");
    CHECK(chain.flow(to_target).holds_until() == Time() + 10ms);
    CHECK(chain.flow(to_client).holds_until() == Time() + 10ms);  // the element's own business
    chain.let_pass(10ms, to_target);
    CHECK(chain.got(to_target).empty());  // now the second one has it
    chain.now += 5ms;
    chain.give(to_target, "2");  // due in 10 ms at the first one, and "1" in 5 at the second
    chain.let_pass(5ms, to_target);
    CHECK(chain.got(to_target) == "1");
    chain.let_pass(15ms, to_target);
    CHECK(chain.got(to_target) == "12");
}

TEST_CASE("an element that grows the stream is held up by a slow reader", "[X-17]") {
    constexpr size_t grown = 64 * 1024;
    auto grows = [](Direction, std::string_view bytes, Time, Buffer& out) {
        size_t taken = 0;
        while (taken < bytes.size() && out.size() < out_enough) {
            out.insert(out.end(), grown, std::byte(bytes[taken]));
            ++taken;
        }
        return Answer{.verdict = Verdict::change, .taken = taken};
    };
    // Twice: what the first one makes waits before the second, and is not all made at once.
    std::vector<std::string> seen;
    auto chain = carrier(4096, link("grow", grows), link("note", notes(seen)));
    Output out;
    const std::string text(4096, 'x');
    Bytes input = bytes_of(text);
    size_t sent = 0, most = 0;
    for (Progress progress{.state = Progress::State::full};
         progress.state != Progress::State::hungry;) {
        const size_t left = input.size();
        progress = chain.flow(to_target).run(input, Time(), out);
        CHECK(left - input.size() <= 1);
        most = std::max(most, out.size());
        sent += out.size();
        out.consume(out.size());
    }
    CHECK(sent == 4096 * grown);
    CHECK(most < out_enough + 4096);

    auto chained = carrier(4096, link("grow", grows), link("grow more", grows));
    const std::string two = "ab";
    Bytes little = bytes_of(two);
    size_t all = 0;
    most = 0;
    for (Progress progress{.state = Progress::State::full};
         progress.state != Progress::State::hungry;) {
        progress = chained.flow(to_target).run(little, Time(), out);
        most = std::max(most, out.size());
        all += out.size();
        out.consume(out.size());
    }
    CHECK(all == 2 * grown * grown);
    CHECK(most < out_enough + grown);
}

TEST_CASE("bytes that nobody changes are not copied") {
    std::vector<std::string> seen;
    auto chain = carrier(4, link("a", notes(seen), 8), link("b", notes(seen)));
    Output out;
    const std::string text = "abcdefghij";
    Bytes input = bytes_of(text);
    chain.flow(to_target).run(input, Time(), out);
    CHECK(out.size() == text.size());
    CHECK(static_cast<const void*>(out.bytes().data()) == text.data());
}

TEST_CASE("what is to be sent stays what it was when the input goes away") {
    Output out;
    std::string text = "abcdef";
    out.add_view(bytes_of(text).first(3));
    out.add_view(bytes_of(text).subspan(3));
    out.consume(2);
    out.keep();
    text = "??????";
    out.add_view(bytes_of("gh"));
    CHECK(text_of(out.bytes()) == "cdefgh");
    out.consume(5);
    out.add(bytes_of("i"));
    CHECK(text_of(out.bytes()) == "hi");
    out.consume(2);
    CHECK(out.empty());
    out.add_view(bytes_of("again"));
    CHECK(text_of(out.bytes()) == "again");
}
