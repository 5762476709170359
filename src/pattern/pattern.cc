// SPDX-License-Identifier: Apache-2.0
// The only file that includes RE2.
#include "pattern/pattern.h"

#include <re2/re2.h>

namespace proxify::pattern {

std::expected<Pattern, std::string> Pattern::compile(std::string_view text) {
    re2::RE2::Options options;
    options.set_encoding(re2::RE2::Options::EncodingLatin1);
    options.set_never_capture(true);
    options.set_log_errors(false);
    // For the program and for the states that searches find; beyond it they are found again.
    options.set_max_mem(1 << 20);
    auto compiled =
        std::make_shared<const re2::RE2>(re2::StringPiece(text.data(), text.size()), options);
    if (!compiled->ok()) return std::unexpected(compiled->error());
    if (compiled->ProgramSize() > steps_max)
        return std::unexpected("it is too large: " + std::to_string(compiled->ProgramSize()) +
                               " steps, and " + std::to_string(steps_max) + " are allowed");
    return Pattern(std::move(compiled));
}

bool Pattern::is_in(std::string_view bytes) const {
    return re2::RE2::PartialMatch(re2::StringPiece(bytes.data(), bytes.size()), *compiled_);
}

const std::string& Pattern::text() const {
    return compiled_->pattern();
}

}  // namespace proxify::pattern
