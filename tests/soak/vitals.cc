// SPDX-License-Identifier: Apache-2.0
#include "soak/vitals.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/format.h"
#include "support/temp_dir.h"

namespace proxify::test::soak {

static size_t kilobytes_after(const std::string& text, const char* label) {
    const size_t at = text.find(label);
    return at == text.npos
               ? 0
               : std::strtoul(text.c_str() + at + std::string(label).size(), nullptr, 10) << 10;
}

Vitals Vitals::of(const Child& process) {
    namespace fs = std::filesystem;
    const std::string folder = "/proc/" + std::to_string(process.pid());
    const std::string status = read_file(folder + "/status");
    Vitals vitals{.resident = kilobytes_after(status, "VmRSS:"),
                  .anonymous = kilobytes_after(status, "RssAnon:")};
    for (const auto& entry : fs::directory_iterator(folder + "/fd")) {
        std::error_code gone;  // closed since it was listed
        const std::string what = fs::read_symlink(entry.path(), gone);
        if (gone) continue;
        ++(what.starts_with("socket:") ? vitals.sockets
           : what.starts_with("pipe:") ? vitals.pipes
                                       : vitals.other_fds);
    }
    return vitals;
}

size_t Series::median_of_third(size_t which) const {
    const size_t warm_up = values_.size() / 7, length = (values_.size() - warm_up) / 3;
    if (length == 0) return values_.empty() ? 0 : values_.back();
    const auto first = values_.begin() + static_cast<ptrdiff_t>(warm_up + which * length);
    std::vector<size_t> third(first, first + static_cast<ptrdiff_t>(length));
    std::ranges::sort(third);
    return third[length / 2];
}

std::string Series::text() const {
    constexpr size_t most = 24;
    std::string line;
    const size_t shown = std::min(values_.size(), most);
    for (size_t i = 0; i < shown; ++i)
        line += format("{}{:.1f}", i ? " " : "",
                       static_cast<double>(values_[i * values_.size() / shown]) / (1 << 20));
    return line;
}

}  // namespace proxify::test::soak
