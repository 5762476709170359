// SPDX-License-Identifier: Apache-2.0
// The only file that includes Hyperscan.
#include "scan/scan.h"

#include <hs/hs.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <limits>
#include <new>

#include "base/expect.h"
#include "scan/steps.h"

namespace proxify::scan {
namespace {

// One match is all that is asked for.
constexpr unsigned flags = HS_FLAG_DOTALL | HS_FLAG_SINGLEMATCH;

void must(hs_error_t error) {
    if (error == HS_NOMEM) throw std::bad_alloc();
    expect(error == HS_SUCCESS, "the search is used as it is meant to be");
}

/// What a thread needs while it looks: room to work in, and a place for the state from before.
struct Workspace {
    explicit Workspace(const hs_database_t* database) {
        must(hs_alloc_scratch(database, &scratch));
        if (hs_error_t error = hs_open_stream(database, 0, &before); error != HS_SUCCESS) {
            hs_free_scratch(scratch);
            must(error);
        }
    }
    ~Workspace() {
        hs_close_stream(before, nullptr, nullptr, nullptr);
        hs_free_scratch(scratch);
    }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    hs_scratch_t* scratch = nullptr;
    hs_stream_t* before = nullptr;
};

/// The sentence of the library as part of one of ours: it counts bytes from 0, and people count
/// characters from 1.
std::string in_words(std::string_view message, std::string_view text) {
    std::string words(message);
    while (words.ends_with('.')) words.pop_back();
    if (words.size() > 1 && std::islower(static_cast<unsigned char>(words[1])))
        words[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(words[0])));
    constexpr std::string_view index = " at index ";
    const size_t at = words.find(index);
    if (at == words.npos) return words;
    const size_t digits = at + index.size();
    const size_t end = std::min(words.find_first_not_of("0123456789", digits), words.size());
    if (end == digits || end - digits > 9) return words;
    const size_t byte =
        std::min<size_t>(std::stoul(words.substr(digits, end - digits)), text.size());
    const auto character = 1 + std::ranges::count_if(text.substr(0, byte), [](char c) {
                               return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
                           });
    return words.substr(0, at) + " at character " + std::to_string(character) + words.substr(end);
}

std::string taken_words(hs_compile_error_t* error, std::string_view text) {
    std::string words = in_words(error->message, text);
    hs_free_compile_error(error);
    return words;
}

int note_match(unsigned, unsigned long long, unsigned long long, unsigned, void* found) {
    *static_cast<bool*>(found) = true;
    return 1;  // no need to look further
}

}  // namespace

struct Pattern::Compiled {
    std::string text;
    hs_database_t* database = nullptr;
    bool matches_only_at_end = false;

    /// Workspaces that nobody uses. A thread takes one for the length of a call; there come to be
    /// as many as threads have looked at the same time.
    mutable std::array<std::atomic<Workspace*>, 32> idle{};

    Compiled() = default;
    Compiled(const Compiled&) = delete;
    Compiled& operator=(const Compiled&) = delete;
    ~Compiled() {
        for (auto& slot : idle) delete slot.load();
        hs_free_database(database);
    }

    std::unique_ptr<Workspace> borrow() const {
        for (auto& slot : idle)
            if (slot.load(std::memory_order_relaxed))
                if (Workspace* found = slot.exchange(nullptr, std::memory_order_acquire))
                    return std::unique_ptr<Workspace>(found);
        return std::make_unique<Workspace>(database);
    }
    void give_back(std::unique_ptr<Workspace> workspace) const {
        for (auto& slot : idle) {
            Workspace* none = nullptr;
            if (slot.compare_exchange_strong(none, workspace.get(), std::memory_order_release,
                                             std::memory_order_relaxed)) {
                workspace.release();
                return;
            }
        }
    }
};

std::expected<Pattern, std::string> Pattern::compile(std::string_view text) {
    if (hs_valid_platform() != HS_SUCCESS)
        return std::unexpected("this processor cannot look for any: it lacks SSE 4.2");
    if (text.contains('\0'))
        return std::unexpected(R"(it has a byte 0; write \x00 for one that is to be found)");
    if (const uint64_t steps = steps_of(text); steps > steps_max)
        return std::unexpected("it is too large: " + std::to_string(steps) + " steps, and " +
                               std::to_string(steps_max) + " are allowed");

    auto compiled = std::make_shared<Compiled>();
    compiled->text = text;
    const char* expression = compiled->text.c_str();
    hs_compile_error_t* error = nullptr;
    hs_expr_info_t* info = nullptr;
    if (hs_expression_info(expression, flags | HS_FLAG_ALLOWEMPTY, &info, &error) != HS_SUCCESS)
        return std::unexpected(taken_words(error, text));
    const unsigned least = info->min_width;
    const unsigned most = info->max_width;
    compiled->matches_only_at_end = info->matches_only_at_eod != 0;
    std::free(info);
    if (least > most) return std::unexpected("nothing can match it");
    if (least == 0) return std::unexpected("it matches no bytes at all, and so everywhere");
    if (hs_compile(expression, flags, HS_MODE_STREAM, nullptr, &compiled->database, &error) !=
        HS_SUCCESS)
        return std::unexpected(taken_words(error, text));
    return Pattern(std::move(compiled));
}

const std::string& Pattern::text() const {
    return compiled_->text;
}

bool Pattern::matches_only_at_end() const {
    return compiled_->matches_only_at_end;
}

size_t Pattern::stream_bytes() const {
    size_t bytes = 0;
    must(hs_stream_size(compiled_->database, &bytes));
    return bytes;
}

size_t Pattern::scratch_bytes() const {
    auto workspace = compiled_->borrow();
    size_t bytes = 0;
    must(hs_scratch_size(workspace->scratch, &bytes));
    compiled_->give_back(std::move(workspace));
    return bytes + stream_bytes();
}

Stream::~Stream() {
    if (state_) hs_close_stream(state_, nullptr, nullptr, nullptr);
}

bool Stream::take(std::string_view bytes) {
    return bytes.empty() || go_on(bytes, /*is_last=*/false);
}

bool Stream::take_last(std::string_view bytes) {
    return (bytes.empty() && is_at_start_) || go_on(bytes, /*is_last=*/true);
}

bool Stream::go_on(std::string_view bytes, bool is_last) {
    expect(bytes.size() <= std::numeric_limits<unsigned>::max(), "a piece is of a usual size");
    if (!state_) must(hs_open_stream(compiled_.database, 0, &state_));
    auto workspace = compiled_.borrow();
    if (!is_at_start_)
        must(hs_reset_and_copy_stream(workspace->before, state_, nullptr, nullptr, nullptr));

    bool found = false;
    if (!bytes.empty()) {
        const auto size = static_cast<unsigned>(bytes.size());
        const hs_error_t scanned =
            hs_scan_stream(state_, bytes.data(), size, 0, workspace->scratch, note_match, &found);
        if (scanned != HS_SCAN_TERMINATED) must(scanned);
    }
    if (!found && is_last) {
        const hs_error_t ended = hs_reset_stream(state_, 0, workspace->scratch, note_match, &found);
        if (ended != HS_SCAN_TERMINATED) must(ended);
    }
    if (!found) {
        is_at_start_ = is_last;
    } else if (is_at_start_) {
        must(hs_reset_stream(state_, 0, nullptr, nullptr, nullptr));
    } else {
        must(hs_reset_and_copy_stream(state_, workspace->before, nullptr, nullptr, nullptr));
    }
    compiled_.give_back(std::move(workspace));
    return !found;
}

/// A byte may complete a match that ends before it, as in "a\b", so the library's word for where
/// one ends depends on how the bytes were cut; where taking more becomes impossible does not.
std::optional<size_t> Stream::feed(std::string_view bytes) {
    if (take(bytes)) return {};
    size_t taken = 0;
    for (size_t left = bytes.size(); left > 1;) {
        const size_t half = left / 2;
        if (take(bytes.substr(taken, half))) {
            taken += half;
            left -= half;
        } else {
            left = half;
        }
    }
    return taken;
}

}  // namespace proxify::scan
