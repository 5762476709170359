// SPDX-License-Identifier: Apache-2.0
#include "kernel/links.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/fd.h"
#include "kernel/steering_program.h"

namespace proxify::kernel {

static std::string name_of_program(uint32_t id) {
    auto program = Fd::adopt(bpf_prog_get_fd_by_id(id));
    bpf_prog_info info{};
    uint32_t size = sizeof info;
    if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) return {};
    return info.name;
}

/// Fills in the link ids, as far as we may see them.
static void find_links(std::vector<SteeringLink>& found, uint64_t netns_inode) {
    for (uint32_t id = 0; bpf_link_get_next_id(id, &id) == 0;) {
        auto link = Fd::adopt(bpf_link_get_fd_by_id(id));
        bpf_link_info info{};
        uint32_t size = sizeof info;
        // A link may end between two steps of the walk; then it does not count any more.
        if (!link || bpf_obj_get_info_by_fd(link.get(), &info, &size) != 0) continue;
        if (info.type != BPF_LINK_TYPE_NETNS || info.netns.netns_ino != netns_inode ||
            info.netns.attach_type != BPF_SK_LOOKUP)
            continue;
        auto entry = std::ranges::find_if(found, [&](const SteeringLink& one) {
            return one.program_id == info.prog_id && one.link_id == 0;
        });
        if (entry != found.end()) entry->link_id = id;
    }
}

Result<std::vector<SteeringLink>> steering_links_here() {
    auto netns = Fd::adopt(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    struct stat about{};
    if (!netns || fstat(netns.get(), &about) < 0)
        return fail(Error::from_errno(errno, "open /proc/thread-self/ns/net"));

    std::array<uint32_t, 64> programs{};  // as many as the kernel lets in
    uint32_t count = programs.size(), flags = 0;
    if (bpf_prog_query(netns.get(), BPF_SK_LOOKUP, 0, &flags, programs.data(), &count) != 0)
        return fail(Error::from_errno(errno, "ask which sk_lookup programs are attached here"));

    std::vector<SteeringLink> found;
    for (uint32_t i = 0; i < count; ++i) {
        auto name = name_of_program(programs[i]);
        bool is_proxify = name == steering_program_name;
        found.push_back(
            {.program_id = programs[i], .program_name = std::move(name), .is_proxify = is_proxify});
    }
    if (!found.empty()) find_links(found, about.st_ino);
    return found;
}

}  // namespace proxify::kernel
