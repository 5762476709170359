// SPDX-License-Identifier: Apache-2.0
#include "kernel/libbpf.h"

#include <bpf/libbpf.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <utility>
#include <vector>

#include "base/format.h"
#include "kernel/privileges.h"

namespace proxify::kernel {

// libbpf has one printer for the whole process, hence an ear for each thread.
static thread_local std::string* libbpf_said = nullptr;

static int hear_libbpf(libbpf_print_level level, const char* form, va_list values) {
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

LibbpfEar::LibbpfEar() {
    [[maybe_unused]] static const auto usual_printer = libbpf_set_print(hear_libbpf);
    before_ = std::exchange(libbpf_said, &heard_);
}

LibbpfEar::~LibbpfEar() {
    libbpf_said = before_;
}

static std::vector<std::string> last_lines(const std::string& text, size_t lines_max) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(std::move(line));
    if (lines.size() > lines_max) lines.erase(lines.begin(), lines.end() - lines_max);
    return lines;
}

std::string permission_hint() {
    auto missing = missing_for_steering();
    if (!missing.empty()) return privileges_hint(missing);
    return "the capabilities are there, so something else forbids bpf(): a user namespace\n"
           "(rootless container), a seccomp profile, or kernel lockdown";
}

Error load_error(int error_number, std::string_view what, const std::string& reason,
                 const std::string& heard) {
    auto error = Error::of(format("cannot load {}", what));
    if (error_number == EPERM) error.hint = permission_hint();
    if (error_number == ENOSYS) {
        error.causes = {"this kernel was built without the bpf system call"};
    } else if (error_number != EPERM && !reason.empty()) {
        error.causes = {reason};
    } else {
        // Nobody foresaw this one, so libbpf and the verifier speak for themselves.
        if (error_number != EPERM) error.causes = last_lines(heard, /*lines_max=*/10);
        error.causes.insert(error.causes.begin(), std::strerror(error_number));
    }
    return error;
}

}  // namespace proxify::kernel
