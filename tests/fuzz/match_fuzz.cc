// SPDX-License-Identifier: Apache-2.0
// libFuzzer: what an element `match` lets go does not depend on how its input is cut, and holds no
// match. The input says which pattern (one of a list, or its own), what a match does, the
// delimiter and the cuts; the rest of it are the bytes.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/expect.h"
#include "filter/makers.h"

using namespace proxify;
using filter::Verdict;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr const char* patterns[] = {
    "abc",
    "^ab",
    "bc$",
    "^a.*c$",
    R"(\bab)",
    R"(bc\b)",
    "a+b*c|ca",
    "[^a]b",
    "a.*c",
    "b{2}",
    "c\na",
    "(?m)^a$",
    "(a|b){3}c",
    "\n",
    "ab\n",
    "b.{3}c",
    R"(c\s)",
    "c\\z",
    "^\n|cc$",
    "a[^\n]+",
    "(?i)ABC|BCA",
    "a.{5,40}b",
    "(a|b)*a(a|b){9}c",
};
constexpr const char* delimiters[] = {"", "\n", "\r\n", "aab", "abab"};

/// The bytes of the input, one after the other; zeros when there are no more.
struct Source {
    const uint8_t* data;
    size_t size;
    uint8_t byte() {
        if (size == 0) return 0;
        --size;
        return *data++;
    }
    std::string_view bytes(size_t count) {
        std::string_view taken(reinterpret_cast<const char*>(data), std::min(count, size));
        data += taken.size();
        size -= taken.size();
        return taken;
    }
};

/// Compiling takes longer than all the rest, so what was compiled is kept.
const scan::Pattern* compiled(const std::string& text) {
    static std::map<std::string, std::optional<scan::Pattern>> known;
    if (known.size() > 10'000) known.clear();
    auto [at, is_new] = known.try_emplace(text);
    if (is_new) {
        auto pattern = scan::Pattern::compile(text);
        expect(pattern || !pattern.error().empty(), "a refusal says why");
        if (pattern) at->second = *pattern;
    }
    return at->second ? &*at->second : nullptr;
}

struct Outcome {
    std::string bytes;
    bool is_closed = false;
    bool operator==(const Outcome&) const = default;
};

struct Silent : telemetry::Journal {
    void session(telemetry::SessionRecord&&) override {}
    void write(telemetry::Level, const char*, std::string,
               std::vector<std::pair<const char*, std::string>>) override {}
};

/// What comes out of one element; `cut` says how long the next chunk is.
template <class Cut>
Outcome outcome(const filter::Maker& maker, std::string_view input, Cut cut) {
    static Silent log;
    auto element =
        maker.make({.session = 1, .service = "fuzz", .client = {}, .original_dst = {}, .log = log});
    constexpr auto way = Direction::to_target;
    Outcome outcome;
    std::string_view chunk;
    while (!input.empty() || !chunk.empty()) {
        if (chunk.empty()) {
            chunk = input.substr(0, std::max<size_t>(cut(), 1));
            input.remove_prefix(chunk.size());
        }
        filter::Buffer out;
        auto answer = element->see(way, filter::bytes_of(chunk), Time{}, out);
        if (answer.verdict == Verdict::close) {
            outcome.is_closed = true;
            return outcome;
        }
        const size_t taken = std::min(answer.taken, chunk.size());
        expect(taken > 0, "an element takes something");
        if (answer.verdict == Verdict::pass) outcome.bytes += chunk.substr(0, taken);
        if (answer.verdict == Verdict::change) outcome.bytes += filter::text_of(out);
        chunk.remove_prefix(taken);
    }
    filter::Buffer out;
    outcome.is_closed = element->end(way, Time{}, out).verdict == Verdict::close;
    outcome.bytes += filter::text_of(out);
    return outcome;
}

/// Whether the pattern is in bytes after which more may come.
bool is_in(const scan::Pattern& pattern, std::string_view bytes) {
    return !scan::Stream(pattern).take(bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Source source{data, size};
    const uint8_t which = source.byte();
    std::string text = which < std::size(patterns) ? patterns[which]
                                                   : std::string(source.bytes(source.byte() % 32));
    // Compiled, large counts are slow rather than wrong.
    if (text.size() > 1 && which >= std::size(patterns))
        for (size_t i = 1; i < text.size(); ++i)
            if (isdigit(text[i]) && isdigit(text[i - 1])) text[i] = 'x';
    const scan::Pattern* pattern = compiled(text);
    if (!pattern) return 0;

    config::Element spec{.type = config::ElementType::match, .pattern = *pattern};
    const uint8_t how = source.byte();
    spec.on_match = how & 1 ? config::OnMatch::drop : config::OnMatch::close;
    if (how & 1) spec.delimiter = delimiters[(how >> 1) % std::size(delimiters)];
    const auto maker = filter::make_match(spec);

    const std::string_view cuts = source.bytes(8);
    const std::string_view input = source.bytes(source.size);
    size_t next = 0;
    auto as_said = [&] {
        return cuts.empty() ? size_t{1} : static_cast<uint8_t>(cuts[next++ % cuts.size()]) % 16;
    };
    const Outcome cut = outcome(*maker, input, as_said);
    if (spec.on_match == config::OnMatch::drop && spec.delimiter.empty()) {
        expect(!cut.is_closed, "what drops does not close");
        expect(!is_in(*pattern, cut.bytes), "what is left of chunks holds no match");
        return 0;
    }
    auto one_each = [] { return size_t{1}; };
    auto all_at_once = [] { return size_t{1} << 20; };
    expect(cut == outcome(*maker, input, one_each), "one byte at a time is as good");
    expect(cut == outcome(*maker, input, all_at_once), "so are all at once");
    if (spec.on_match == config::OnMatch::close) {
        expect(input.starts_with(cut.bytes), "what passes does so as it came");
        expect(cut.is_closed || cut.bytes == input, "nothing is lost without a match");
        expect(!is_in(*pattern, cut.bytes), "what passed holds no match");
    } else {
        expect(cut == outcome(*maker, cut.bytes, all_at_once), "what has passed passes");
    }
    return 0;
}
