// SPDX-License-Identifier: Apache-2.0
#include "netfilter/nft.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/format.h"

namespace proxify::netfilter {

namespace {

struct Output {
    int status = -1;
    std::string out, err;
};

// The program reads and writes files without a name: whatever the size, nobody waits for anybody.
Fd file_with(std::string_view content) {
    auto file = Fd::adopt(memfd_create("nft", MFD_CLOEXEC));
    while (file && !content.empty()) {
        ssize_t written = write(file.get(), content.data(), content.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return {};
        content.remove_prefix(static_cast<size_t>(written));
    }
    if (file) lseek(file.get(), 0, SEEK_SET);
    return file;
}

std::string content_of(const Fd& file) {
    struct stat about{};
    fstat(file.get(), &about);
    std::string text(static_cast<size_t>(about.st_size), '\0');
    ssize_t got = pread(file.get(), text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return text;
}

Result<Output> run_nft(std::vector<std::string> arguments, std::string_view input) {
    const Fd in = file_with(input), out = file_with({}), err = file_with({});
    if (!in || !out || !err) return fail(Error::from_errno(errno, "make a file for nft to read"));

    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in.get(), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out.get(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, err.get(), STDERR_FILENO);
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_t pid = -1;
    // Who is not root has no /usr/sbin in the path, and is to hear that root is what is missing.
    int error = ENOENT;
    for (const char* path : {"nft", "/usr/sbin/nft"})
        if (error == ENOENT)
            error = posix_spawnp(&pid, path, &files, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    if (error == ENOENT)
        return fail(Error::of("the program nft is not on this host",
                              "apt install nftables; or write the rules yourself, with iptables"));
    if (error) return fail(Error::from_errno(error, "start nft"));

    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return fail(Error::from_errno(errno, "wait for nft"));
    return Output{.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
                  .out = content_of(out),
                  .err = content_of(err)};
}

std::string_view first_line(std::string_view text) {
    return text.substr(0, text.find('\n'));
}

Error refused(const Output& output, std::string what) {
    const std::string_view said = output.err;
    std::string hint;
    if (said.contains("ermitted"))
        hint = "run it as root: it takes CAP_NET_ADMIN";
    else if (said.contains("\ndelete element ") || said.contains("File exists"))
        hint = "somebody else has changed the rules at the same time: try again";
    else if (said.contains("No such file or directory") || said.contains("not supported"))
        hint =
            "the kernel may lack NAT for nftables: try `modprobe -a nft_chain_nat nft_redir`;\n"
            "a container cannot load modules, its host has to";
    else if (said.contains("No buffer space") || said.contains("Message too long"))
        hint = "too many at once: add some of the ports, then the others";
    return Error::of(format("nft says: {}", said.empty() ? format("exit status {}", output.status)
                                                         : std::string(first_line(said))),
                     std::move(hint))
        .within(std::move(what));
}

}  // namespace

Result<std::optional<Rules>> current_rules() {
    TRY_TO(listed, run_nft({"nft", "list", "table", "inet", "proxify"}, {}));
    if (listed.status != 0) {
        if (listed.err.contains("No such file or directory")) return std::optional<Rules>();
        return fail(refused(listed, "cannot read the rules of this host"));
    }
    TRY_TO(rules, read_rules(listed.out));
    return std::optional<Rules>(std::move(rules));
}

Result<> run(const std::string& transaction) {
    if (transaction.empty()) return {};
    TRY_TO(done, run_nft({"nft", "-f", "-"}, transaction));
    if (done.status != 0) return fail(refused(done, "cannot write the rules"));
    return {};
}

}  // namespace proxify::netfilter
