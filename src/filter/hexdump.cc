// SPDX-License-Identifier: Apache-2.0
// hexdump: a line for each chunk, and lines with what its first bytes are, in hex and as text, 16 a
// line. A line says how far from the beginning of its direction it is.
#include <array>

#include "filter/makers.h"
#include "filter/tell.h"

namespace proxify::filter {
namespace {

constexpr size_t per_row = 16;
/// Of each chunk: enough for the head of most requests, and not the whole queue of the log.
constexpr size_t shown_max = 256;

/// "48 65 6c 6c 6f", with a gap in the middle of a row.
std::string hex_of(Bytes row) {
    std::string hex;
    for (size_t i = 0; i < row.size(); ++i)
        hex += format("{}{:02x}",
                      i == 0             ? ""
                      : i == per_row / 2 ? "  "
                                         : " ",
                      std::to_integer<unsigned>(row[i]));
    return hex;
}

std::string letters_of(Bytes row) {
    std::string letters;
    for (std::byte byte : row) {
        const auto c = std::to_integer<unsigned char>(byte);
        letters += c >= 0x20 && c < 0x7f ? static_cast<char>(c) : '.';
    }
    return letters;
}

class Hexdump final : public Element {
  public:
    Hexdump(const Facts& facts, const config::Element& spec) : teller_(facts, spec) {}

    Answer see(Direction direction, Bytes bytes, Time, Buffer&) override {
        uint64_t& offset = offsets_[static_cast<size_t>(direction)];
        if (teller_.is_heard()) tell(direction, offset, bytes);
        offset += bytes.size();
        return {};
    }

  private:
    void tell(Direction direction, uint64_t offset, Bytes bytes) const {
        const Bytes shown = bytes.first(std::min(bytes.size(), shown_max));
        const size_t left_out = bytes.size() - shown.size();
        teller_.tell(
            "chunk", direction,
            left_out == 0 ? format("{} bytes", bytes.size())
                          : format("{} bytes, without the last {}", bytes.size(), left_out),
            {{"bytes", std::to_string(bytes.size())}, {"left_out", std::to_string(left_out)}});
        for (size_t at = 0; at < shown.size(); at += per_row) {
            const Bytes row = shown.subspan(at, std::min(per_row, shown.size() - at));
            const std::string where = format("{:08x}", offset + at), hex = hex_of(row),
                              letters = letters_of(row);
            teller_.tell("dump", direction, format("{}  {:<48}  |{}|", where, hex, letters),
                         {{"offset", where}, {"hex", hex}, {"text", letters}});
        }
    }

    Teller teller_;
    std::array<uint64_t, 2> offsets_{};
};

}  // namespace

std::shared_ptr<const Maker> make_hexdump(const config::Element& spec) {
    return std::make_shared<TellingMaker<Hexdump>>(spec);
}

}  // namespace proxify::filter
