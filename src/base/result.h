// SPDX-License-Identifier: Apache-2.0
// Result<T>: what an operator asked for, or the reason it could not be done.
//
// An Error is a sentence that grows outward, one clause for each layer it passes:
//
//     error: cannot steer ports to the listener
//       while attaching sk_lookup to this network namespace: Operation not permitted
//       hint: run as root, or grant CAP_BPF and CAP_NET_ADMIN
//
// How a connection ends is ordinary life and no Error; see session/ending.h.
#pragma once

#include <cstring>
#include <expected>
#include <string>
#include <utility>
#include <vector>

namespace proxify {

struct Error {
    std::string what;                 ///< what could not be done, to what, and why
    std::vector<std::string> causes;  ///< the clauses below it, outermost first
    std::string hint;                 ///< the way out, if there is one; may have several lines

    static Error of(std::string what, std::string hint = {}) {
        return {.what = std::move(what), .causes = {}, .hint = std::move(hint)};
    }

    /// `what` failed with this errno value: "open /x: No such file or directory".
    static Error from_errno(int error_number, std::string what, std::string hint = {}) {
        return of(std::move(what) + ": " + std::strerror(error_number), std::move(hint));
    }

    /// The same failure seen from one layer further out.
    Error within(std::string outer) && {
        causes.insert(causes.begin(), std::move(what));
        what = std::move(outer);
        return std::move(*this);
    }

    /// As a person reads it, without a final newline.
    std::string text() const {
        std::string out = "error: " + what;
        for (const auto& cause : causes) out += "\n  " + cause;
        if (!hint.empty()) {
            out += "\n  hint: ";
            for (char c : hint) {
                out += c;
                if (c == '\n') out += "        ";
            }
        }
        return out;
    }
};

template <class T = void>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(Error error) {
    return std::unexpected(std::move(error));
}

}  // namespace proxify

#define PROXIFY_CONCAT_(a, b) a##b
#define PROXIFY_CONCAT(a, b) PROXIFY_CONCAT_(a, b)

/// TRY(expression) passes a failure up; TRY_TO(name, expression) also names the value.
#define TRY(expression)                                            \
    do {                                                           \
        if (auto try_result = (expression); !try_result)           \
            return std::unexpected(std::move(try_result).error()); \
    } while (false)
#define TRY_TO(name, expression)                                                  \
    auto PROXIFY_CONCAT(name, _result) = (expression);                            \
    if (!PROXIFY_CONCAT(name, _result))                                           \
        return std::unexpected(std::move(PROXIFY_CONCAT(name, _result)).error()); \
    auto name = *std::move(PROXIFY_CONCAT(name, _result))
