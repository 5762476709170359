// SPDX-License-Identifier: Apache-2.0
#include "tunnel/preface.h"

#include <algorithm>
#include <cstring>

#include "base/expect.h"

namespace proxify::tunnel {
namespace {

constexpr uint8_t version = 1, opening_kind = 1, answer_kind = 2;
constexpr size_t head_size = 8;

void put_16(std::string& out, size_t value) {
    out += static_cast<char>(value >> 8);
    out += static_cast<char>(value & 0xff);
}

size_t get_16(std::span<const std::byte> bytes) {
    return std::to_integer<size_t>(bytes[0]) << 8 | std::to_integer<size_t>(bytes[1]);
}

std::string head(uint8_t kind, size_t length) {
    std::string out = "PXFY";
    out += static_cast<char>(version);
    out += static_cast<char>(kind);
    put_16(out, length);
    return out;
}

enum class Head { incomplete, malformed, complete };

/// `length` is the body's, once the head is there; it is one of least, least + step, ... most.
Head read_head(std::span<const std::byte> bytes, uint8_t kind, size_t least, size_t step,
               size_t most, size_t& length) {
    const std::string begin = head(kind, 0).substr(0, head_size - 2);
    const auto known = std::as_bytes(std::span(begin));
    const size_t count = std::min(bytes.size(), known.size());
    if (!std::ranges::equal(bytes.first(count), known.first(count))) return Head::malformed;
    if (bytes.size() < head_size) return Head::incomplete;
    length = get_16(bytes.subspan(head_size - 2));
    if (length < least || length > most || (length - least) % step != 0) return Head::malformed;
    return Head::complete;
}

}  // namespace

std::string encode(const Opening& opening) {
    expect(!opening.path.empty() && opening.path.size() <= hops_max,
           "a path is neither empty nor "
           "endless");
    std::string out = head(opening_kind, 2 + opening.path.size() * sizeof(Id));
    put_16(out, opening.port);
    for (const Id& id : opening.path) out.append(id.begin(), id.end());
    return out;
}

std::string encode(Answer answer) {
    return head(answer_kind, 1) + static_cast<char>(answer);
}

Read<Opening> read_opening(std::span<const std::byte> bytes) {
    using State = Read<Opening>::State;
    size_t length = 0;
    const auto of_head = read_head(bytes, opening_kind, 2 + sizeof(Id), sizeof(Id),
                                   2 + hops_max * sizeof(Id), length);
    if (of_head == Head::malformed) return {.state = State::malformed};
    if (of_head == Head::incomplete) return {};
    const auto body = bytes.subspan(head_size);
    Opening opening;
    if (body.size() >= 2) {
        opening.port = static_cast<uint16_t>(get_16(body));
        if (opening.port == 0) return {.state = State::malformed};
    }
    if (body.size() < length) return {};
    for (size_t at = 2; at < length; at += sizeof(Id)) {
        auto& id = opening.path.emplace_back();
        std::memcpy(id.data(), body.data() + at, sizeof id);
    }
    return {State::complete, head_size + length, std::move(opening)};
}

Read<Answer> read_answer(std::span<const std::byte> bytes) {
    using State = Read<Answer>::State;
    size_t length = 0;
    const auto of_head = read_head(bytes, answer_kind, 1, 1, 1, length);
    if (of_head == Head::malformed) return {.state = State::malformed};
    if (of_head == Head::incomplete || bytes.size() == head_size) return {};
    const auto value = std::to_integer<uint8_t>(bytes[head_size]);
    if (value > static_cast<uint8_t>(Answer::unreachable)) return {.state = State::malformed};
    return {State::complete, head_size + 1, static_cast<Answer>(value)};
}

}  // namespace proxify::tunnel
