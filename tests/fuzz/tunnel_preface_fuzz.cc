// SPDX-License-Identifier: Apache-2.0
// libFuzzer: how a preface reads does not depend on how it is cut. What is complete stays so with
// more behind it, what is malformed never becomes anything else, and what was read is written the
// same way.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/expect.h"
#include "tunnel/preface.h"

using namespace proxify;
using namespace tunnel;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

template <class Message>
static void hold(std::span<const std::byte> bytes,
                 Read<Message> (&read)(std::span<const std::byte>)) {
    using State = Read<Message>::State;
    const auto whole = read(bytes);
    if (whole.state == State::complete) {
        expect(whole.size <= bytes.size() && whole.size <= size_max, "a message has its bounds");
        const std::string again = encode(whole.message);
        expect(std::ranges::equal(std::as_bytes(std::span(again)), bytes.first(whole.size)),
               "what was read is written the same way");
    }
    if (whole.state == State::incomplete)
        expect(bytes.size() < size_max, "nobody waits for more than a message");
    auto before = State::incomplete;
    for (size_t count = 0; count <= std::min(bytes.size(), size_max + 1); ++count) {
        const auto part = read(bytes.first(count));
        if (before != State::incomplete) expect(part.state == before, "a verdict stays");
        before = part.state;
    }
    if (bytes.size() <= size_max + 1) expect(before == whole.state, "the last part is the whole");
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto bytes = std::as_bytes(std::span(data, size));
    hold<Opening>(bytes, read_opening);
    hold<Answer>(bytes, read_answer);
    return 0;
}
