// SPDX-License-Identifier: Apache-2.0
// Says something, or nothing where servers speak first, and waits until what is expected has come.
#include "base/format.h"
#include "config/words.h"
#include "health/checks.h"
#include "health/talk.h"

namespace proxify::health {

using namespace io;

Task<Outcome> check_send(const config::SendCheck& check, Probe& probe, Talk& talk) {
    if (int error = co_await talk.connect()) co_return failed_with(error, probe);
    if (int error = co_await talk.send(check.send)) co_return failed_with(error, probe);
    if (check.expect.empty() && !check.expect_pattern) co_return Outcome::good();

    auto is_there = [&](std::string_view bytes) {
        return check.expect_pattern ? check.expect_pattern->is_in(bytes)
                                    : bytes.find(check.expect) != std::string_view::npos;
    };
    int error = co_await talk.receive_until(is_there);
    if (error == 0) co_return Outcome::good();
    // Silence is told from an answer that is not the right one.
    if (talk.answer().empty() && error != ENODATA) co_return failed_with(error, probe);
    if (error != ENODATA && error != EFBIG && error != ETIMEDOUT)
        co_return failed_with(error, probe);
    co_return Outcome::bad(
        format("check failed: the answer did not {} {}", check.expect_pattern ? "match" : "contain",
               config::quoted(check.expect_pattern ? check.expect_pattern->text() : check.expect)));
}

}  // namespace proxify::health
