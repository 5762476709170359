// SPDX-License-Identifier: Apache-2.0
// One question, one answer, and the connection is over. The answer is read as far as it must be:
// its head for the status; then, when something is to be found in its body, on until it is found.
// The body is looked at as it comes, with whatever encoding and chunks it is in.
#include <algorithm>
#include <charconv>

#include "base/format.h"
#include "config/words.h"
#include "health/checks.h"
#include "health/talk.h"

namespace proxify::health {

using namespace io;

namespace {

constexpr std::string_view version_start = "HTTP/1.";

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/// The status of a line like "HTTP/1.1 200 OK", without its end; 0 when it is none.
int read_status(std::string_view line) {
    // One digit of version, a space, three digits, and then a space or nothing.
    size_t at = version_start.size();
    if (line.size() < at + 5 || !is_digit(line[at]) || line[at + 1] != ' ') return 0;
    if (line.size() > at + 5 && line[at + 5] != ' ') return 0;
    int status = 0;
    const char* digits = line.data() + at + 2;
    auto [end, error] = std::from_chars(digits, digits + 3, status);
    bool is_status = error == std::errc() && end == digits + 3 && status >= 100;
    return is_status ? status : 0;
}

/// Where the empty line ends that ends a head; npos when it has not come yet. A line may end
/// without a carriage return (RFC 9112, section 2.2).
size_t find_end_of_head(std::string_view bytes) {
    for (size_t at = bytes.find('\n'); at != std::string_view::npos;
         at = bytes.find('\n', at + 1)) {
        auto rest = bytes.substr(at + 1);
        if (rest.starts_with('\n')) return at + 2;
        if (rest.starts_with("\r\n")) return at + 3;
    }
    return std::string_view::npos;
}

bool contains(const std::vector<config::StatusRange>& ranges, int status) {
    return std::ranges::any_of(
        ranges, [&](auto range) { return status >= range.first && status <= range.last; });
}

}  // namespace

std::expected<std::optional<HttpHead>, std::string> read_http_head(std::string_view bytes) {
    size_t begin = 0;
    for (;;) {
        auto head = bytes.substr(begin);
        size_t compared = std::min(head.size(), version_start.size());
        if (head.substr(0, compared) != version_start.substr(0, compared))
            return std::unexpected("the answer is not HTTP/1");
        size_t line_end = head.find('\n');
        if (line_end == std::string_view::npos) return std::nullopt;
        auto line = head.substr(0, line_end);
        if (line.ends_with('\r')) line.remove_suffix(1);
        int status = read_status(line);
        if (status == 0) return std::unexpected("the answer has no status");
        size_t end = find_end_of_head(head);
        if (end == std::string_view::npos) return std::nullopt;
        begin += end;
        // 101 is an answer of its own; others below 200 announce one.
        if (status >= 200 || status == 101) return HttpHead{status, begin};
    }
}

std::string http_question(const config::HttpCheck& check, const Subject& subject) {
    std::string host = check.host;
    if (host.empty()) {
        bool is_v6 = subject.host.find(':') != std::string::npos;
        host = is_v6 ? format("[{}]", subject.host) : subject.host;
        uint16_t usual_port = check.tls ? 443 : 80;
        if (subject.address.port != usual_port) host += format(":{}", subject.address.port);
    }
    // Methods that usually come with content say that there is none (RFC 9110, section 8.6).
    bool has_content = check.method == "POST" || check.method == "PUT" || check.method == "PATCH";
    return format(
        "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: proxify\r\nAccept: */*\r\n{}"
        "Connection: close\r\n\r\n",
        check.method, check.path, host, has_content ? "Content-Length: 0\r\n" : "");
}

Task<Outcome> check_http(const config::HttpCheck& check, Probe& probe, Talk& talk) {
    if (int error = co_await talk.connect()) co_return failed_with(error, probe);
    if (check.tls) {
        if (int error = co_await talk.secure(*check.tls)) co_return talk.handshake_failed(error);
    }
    const std::string question = http_question(check, probe.subject);
    if (int error = co_await talk.send(question)) co_return failed_with(error, probe);

    std::expected<std::optional<HttpHead>, std::string> head;
    auto has_head = [&](std::string_view bytes) {
        head = read_http_head(bytes);
        return !head || *head;
    };
    int error = co_await talk.receive_until(has_head);
    if (!head) co_return Outcome::bad("check failed: " + head.error());
    if (!*head) {
        if (error == ENODATA)
            co_return Outcome::bad("check failed: the answer ended within its head");
        if (error == EFBIG)
            co_return Outcome::bad("check failed: the head of the answer has no end");
        co_return failed_with(error, probe);
    }
    int status = (*head)->status;
    if (!contains(check.statuses, status))
        co_return Outcome::bad(
            format("check failed: status {}, expected {}", status, config::listed(check.statuses)));
    if (!check.body) co_return Outcome::good();

    auto is_found = [&](std::string_view bytes) {
        return check.body->is_in(bytes.substr(std::min((*head)->size, bytes.size())));
    };
    error = co_await talk.receive_until(is_found);
    if (error == 0) co_return Outcome::good();
    const auto pattern = config::quoted(check.body->text());
    if (error == ENODATA)
        co_return Outcome::bad(format("check failed: the body did not match {}", pattern));
    if (error == ETIMEDOUT)
        co_return Outcome::bad(format("check failed: the body did not match {} within {}", pattern,
                                      to_text(probe.spec.timeout)));
    if (error == EFBIG)
        co_return Outcome::bad(
            format("check failed: the first 64 KiB of the answer did not match {}", pattern));
    co_return failed_with(error, probe);
}

}  // namespace proxify::health
