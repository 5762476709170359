// SPDX-License-Identifier: Apache-2.0
// log: a line for each chunk, and how large it is. What is in it is not told; see hexdump.
#include "filter/makers.h"
#include "filter/tell.h"

namespace proxify::filter {
namespace {

class LogChunks final : public Element {
  public:
    LogChunks(const Facts& facts, const config::Element& spec) : teller_(facts, spec) {}

    Answer see(Direction direction, Bytes bytes, Time, Buffer&) override {
        if (teller_.is_heard())
            teller_.tell("chunk", direction, format("{} bytes", bytes.size()),
                         {{"bytes", std::to_string(bytes.size())}});
        return {};
    }

  private:
    Teller teller_;
};

}  // namespace

std::shared_ptr<const Maker> make_log(const config::Element& spec) {
    return std::make_shared<TellingMaker<LogChunks>>(spec);
}

}  // namespace proxify::filter
