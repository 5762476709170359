// SPDX-License-Identifier: Apache-2.0
#include "kernel/cgroups.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "base/format.h"

namespace proxify::kernel {

static std::string whole_file(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// The kernel writes blanks and backslashes of a path as "\040".
static std::string unescape(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 3 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '3') {
            out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                     (text[i + 3] - '0'));
            i += 3;
        } else {
            out += text[i];
        }
    }
    return out;
}

static std::vector<std::string_view> split(std::string_view text, char at) {
    std::vector<std::string_view> parts;
    while (!text.empty()) {
        const size_t end = std::min(text.find(at), text.size());
        parts.push_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return parts;
}

std::optional<std::string> find_cgroup2(std::string_view mountinfo) {
    // 30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw
    // Five fields, any number of optional ones, a hyphen, the type.
    for (auto line : split(mountinfo, '\n')) {
        const size_t hyphen = line.find(" - ");
        if (hyphen == std::string_view::npos) continue;
        if (!line.substr(hyphen + 3).starts_with("cgroup2 ")) continue;
        const auto fields = split(line.substr(0, hyphen), ' ');
        if (fields.size() >= 5) return unescape(fields[4]);
    }
    return std::nullopt;
}

Result<std::string> cgroup2_root() {
    if (auto found = find_cgroup2(whole_file("/proc/self/mountinfo"))) return *found;
    return fail(
        Error::of("no cgroup2 tree is mounted here, and captures at connect() need one",
                  "mount -t cgroup2 none /sys/fs/cgroup/unified, beside those of version 1;\n"
                  "in a container, run it with the host's cgroup namespace and /sys/fs/cgroup"));
}

Result<Cgroup> open_cgroup(const std::string& path) {
    auto folder = Fd::adopt(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder) return fail(Error::from_errno(errno, format("open the cgroup {}", path)));
    struct statfs system{};
    struct stat about{};
    if (fstatfs(folder.get(), &system) != 0 || fstat(folder.get(), &about) != 0)
        return fail(Error::from_errno(errno, format("look at the cgroup {}", path)));
    if (system.f_type != CGROUP2_SUPER_MAGIC)
        return fail(Error::of(format("{} is no folder of a cgroup2 tree", path),
                              "`findmnt -t cgroup2` shows where it is mounted"));
    return Cgroup{.folder = std::move(folder), .id = about.st_ino, .path = path};
}

std::optional<std::string> cgroup_in(std::string_view cgroup) {
    for (auto line : split(cgroup, '\n'))
        if (line.starts_with("0::")) return std::string(line.substr(3));
    return std::nullopt;
}

std::optional<std::string> cgroup_of(int pid, const std::string& root) {
    auto path = cgroup_in(whole_file(format("/proc/{}/cgroup", pid)));
    if (!path) return std::nullopt;
    return *path == "/" ? root : root + *path;
}

std::optional<std::string> cgroup_path(uint64_t id, int root) {
    // The handle of a folder in kernfs is its id (FILEID_KERNFS, linux/exportfs.h).
    alignas(file_handle) std::array<char, sizeof(file_handle) + sizeof id> bytes{};
    auto* handle = reinterpret_cast<file_handle*>(bytes.data());
    handle->handle_bytes = sizeof id;
    handle->handle_type = 0xfe;
    std::memcpy(bytes.data() + sizeof(file_handle), &id, sizeof id);
    auto folder = Fd::adopt(open_by_handle_at(root, handle, O_PATH | O_CLOEXEC));
    if (!folder && (errno == EPERM || errno == EOPNOTSUPP)) return std::nullopt;
    if (!folder) return "";
    std::array<char, 4096> path;
    const ssize_t size =
        readlink(format("/proc/self/fd/{}", folder.get()).c_str(), path.data(), path.size());
    return size > 0 ? std::string(path.data(), static_cast<size_t>(size)) : std::string();
}

std::map<uint64_t, std::string> all_cgroups(const std::string& root) {
    namespace fs = std::filesystem;
    constexpr size_t cgroups_max = 65536;
    std::map<uint64_t, std::string> found;
    struct stat about{};
    if (stat(root.c_str(), &about) != 0) return found;
    found[about.st_ino] = root;
    std::error_code ignored;  // they come and go
    const auto options = fs::directory_options::skip_permission_denied;
    for (fs::recursive_directory_iterator one(root, options, ignored), end;
         !ignored && one != end && found.size() < cgroups_max; one.increment(ignored))
        if (one->is_directory(ignored) && stat(one->path().c_str(), &about) == 0)
            found[about.st_ino] = one->path().native();
    return found;
}

}  // namespace proxify::kernel
