// SPDX-License-Identifier: Apache-2.0
// What the ends of a tunnel say to each other, as bytes.
#include "tunnel/preface.h"

#include <catch2/catch.hpp>

using namespace proxify;
using namespace tunnel;

namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text));
}

Id id_of(uint8_t number) {
    Id id{};
    id.fill(number);
    return id;
}

using OpeningState = Read<Opening>::State;
using AnswerState = Read<Answer>::State;

OpeningState state_of(const std::string& text) {
    return read_opening(bytes_of(text)).state;
}

}  // namespace

TEST_CASE("an opening is read as it was written, wherever it is split [M-18]") {
    for (size_t hops : {size_t{1}, size_t{2}, hops_max}) {
        Opening opening{.port = 8080, .path = {}};
        for (size_t i = 0; i < hops; ++i) opening.path.push_back(id_of(static_cast<uint8_t>(i)));
        const std::string text = encode(opening);
        CHECK(text.size() <= size_max);
        for (size_t size = 0; size < text.size(); ++size)
            CHECK(state_of(text.substr(0, size)) == OpeningState::incomplete);
        // What comes behind it is the client's.
        for (const std::string more : {"", "GET /"}) {
            const std::string all = text + more;
            const auto read = read_opening(bytes_of(all));
            CHECK(read.state == OpeningState::complete);
            CHECK(read.size == text.size());
            CHECK(read.message == opening);
        }
    }
}

TEST_CASE("what is no opening is seen at its first wrong byte [M-18]") {
    const std::string good = encode(Opening{.port = 80, .path = {id_of(7)}});
    for (size_t i = 0; i < 6; ++i) {
        std::string wrong = good.substr(0, i + 1);
        wrong[i] = static_cast<char>(wrong[i] ^ 0x40);
        CHECK(state_of(wrong) == OpeningState::malformed);
    }
    CHECK(state_of("GET / HTTP/1.1\r\n") == OpeningState::malformed);
    CHECK(state_of(encode(Answer::connected)) == OpeningState::malformed);
    CHECK(state_of(std::string("PXFY\1\1\0\2", 8)) == OpeningState::malformed);      // no path
    CHECK(state_of(std::string("PXFY\1\1\0\x13", 8)) == OpeningState::malformed);    // half an id
    CHECK(state_of(std::string("PXFY\1\1\xff\xf2", 8)) == OpeningState::malformed);  // endless
    std::string no_port = good;
    no_port[9] = 0;
    CHECK(state_of(no_port.substr(0, 10)) == OpeningState::malformed);
}

TEST_CASE("an answer is read as it was written, wherever it is split") {
    for (Answer answer : {Answer::connected, Answer::refused, Answer::not_allowed, Answer::loop,
                          Answer::unreachable}) {
        const std::string text = encode(answer);
        for (size_t size = 0; size < text.size(); ++size)
            CHECK(read_answer(bytes_of(text).first(size)).state == AnswerState::incomplete);
        const std::string all = text + "220 mail";
        const auto read = read_answer(bytes_of(all));
        CHECK(read.state == AnswerState::complete);
        CHECK(read.size == text.size());
        CHECK(read.message == answer);
    }
}

TEST_CASE("what is no answer is seen at its first wrong byte") {
    auto state = [](const std::string& text) { return read_answer(bytes_of(text)).state; };
    CHECK(state("220 mail") == AnswerState::malformed);
    CHECK(state(encode(Opening{.port = 80, .path = {id_of(1)}})) == AnswerState::malformed);
    CHECK(state(std::string("PXFY\1\2\0\2", 8)) == AnswerState::malformed);
    CHECK(state(std::string("PXFY\1\2\0\1\5", 9)) == AnswerState::malformed);
    CHECK(state(std::string("PXFY\2", 5)) == AnswerState::malformed);  // of a later version
}
