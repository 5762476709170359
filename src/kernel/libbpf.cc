// SPDX-License-Identifier: Apache-2.0
#include "kernel/libbpf.h"

#include <bpf/libbpf.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <vector>

namespace proxify::kernel {

// It has one printer for the whole process, hence an ear for each thread.
static thread_local std::string* libbpf_said = nullptr;

static int hear(libbpf_print_level level, const char* form, va_list values) {
    if (level == LIBBPF_DEBUG || libbpf_said == nullptr) return 0;
    // One call can bring the verifier's whole log, and its end is what matters.
    va_list again;
    va_copy(again, values);
    std::string text(std::vsnprintf(nullptr, 0, form, values), '\0');
    std::vsnprintf(text.data(), text.size() + 1, form, again);
    va_end(again);
    *libbpf_said += text;
    return 0;
}

int hear_libbpf(const std::function<int()>& work, std::string& said) {
    [[maybe_unused]] static const auto usual_printer = libbpf_set_print(hear);
    libbpf_said = &said;
    int error = work();
    libbpf_said = nullptr;
    return -error;
}

static std::vector<std::string> last_lines(const std::string& text, size_t lines_max) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(std::move(line));
    if (lines.size() > lines_max) lines.erase(lines.begin(), lines.end() - lines_max);
    return lines;
}

Error load_error(std::string what, int error_number, const std::string& said,
                 const std::string& plain_reason, const std::string& permission_hint) {
    auto error = Error::of(std::move(what));
    if (error_number == EPERM) error.hint = permission_hint;
    if (!plain_reason.empty()) {
        error.causes = {plain_reason};
        return error;
    }
    // Nobody foresaw this one, so libbpf and the verifier speak for themselves.
    if (error_number != EPERM) error.causes = last_lines(said, /*lines_max=*/10);
    error.causes.insert(error.causes.begin(), std::strerror(error_number));
    return error;
}

}  // namespace proxify::kernel
