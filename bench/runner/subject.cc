// SPDX-License-Identifier: Apache-2.0
#include "runner/subject.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/expect.h"
#include "base/format.h"
#include "common/wire.h"

namespace proxify::bench {

const std::vector<Subject>& all_subjects() {
    static const std::vector<Subject> all = {
        {"direct", "direct", Program::none},
        {"proxify", "proxify", Program::proxify},
        {"proxify-b", "proxify -b", Program::proxify, true},
        {"haproxy", "HAProxy", Program::haproxy},
        {"haproxy-splice", "HAProxy splice", Program::haproxy, true},
        {"nginx", "nginx", Program::nginx},
    };
    return all;
}

const Subject& subject(const std::string& id) {
    auto found = std::ranges::find(all_subjects(), id, &Subject::id);
    expect(found != all_subjects().end(), "a subject is named by its id");
    return *found;
}

// ---- config files

static int workers_of(const World& world, const Setup& setup) {
    return setup.pinned ? 1 : static_cast<int>(world.cores.size());
}

static std::string host_after(const char* first, int number) {
    in_addr address{};
    inet_pton(AF_INET, first, &address);
    address.s_addr = htonl(ntohl(address.s_addr) + static_cast<uint32_t>(number));
    return inet_ntoa(address);
}

static std::string target_host(int number) {
    return host_after(first_target_address, number);
}

static int port_count(const Setup& setup) {
    int count = setup.has_bulk ? 2 : 1;
    for (auto span : setup.extra_ports) count += span.last - span.first + 1;
    return count;
}

bool proxify_takes(const World& world, const std::string& section, const std::string& line) {
    auto path = world.folder + "/probe.toml";
    std::string text = section == "service" ? "" : format("[{}]\n{}\n", section, line);
    text += "[[service]]\nname = \"a\"\nports = [5001]\ntargets = [\"127.0.0.1:9001\"]\n";
    if (section == "service") text += line + "\n";
    std::ofstream(path) << text;
    auto checked = Process::start(
        {.words = {world.proxify, "check", "-c", path}, .log = world.folder + "/probe.log"});
    return checked && checked->finish(5s);
}

std::string tls_key(const std::string& certificate) {
    return format("tls = {{ certificates = \"{}\" }}\n", certificate);
}

static std::string admin_socket(const World& world) {
    return world.folder + "/proxify.sock";
}

std::string lister_for(const World& world, const Subject& subject) {
    if (subject.program == Program::proxify &&
        proxify_takes(world, "admin", format("socket = \"{}\"\n", admin_socket(world))))
        return format("exec {} sessions --json --watch=1s --socket {} >/dev/null", world.proxify,
                      admin_socket(world));
    if (subject.program == Program::haproxy)
        return format(
            "while :; do echo show sess | nc -N -U {}/haproxy.sock >/dev/null; sleep 1; done",
            world.folder);
    return {};
}

static std::string proxify_config(const World& world, const Setup& setup) {
    std::string text = format("[proxify]\nlisten = {}\ndrain_timeout = \"1s\"\n", steering_port);
    std::string workers = setup.pinned ? "workers = 1" : "workers = \"auto\"";
    if (proxify_takes(world, "proxify", workers)) text += workers + "\n";
    text += "\n[log]\nlevel = \"off\"\n";
    auto socket = format("socket = \"{}\"\n", admin_socket(world));
    if (proxify_takes(world, "admin", socket)) text += "\n[admin]\n" + socket;
    auto service = [&](const char* name, uint16_t port, const std::vector<PortSpan>& extra,
                       uint16_t target_port) {
        text += format("\n[[service]]\nname = \"{}\"\nports = [", name);
        if (port) text += format("{}", port);
        for (auto span : extra) text += format(", \"{}-{}\"", span.first, span.last);
        text += "]\ntargets = [\n";
        for (int i = 0; i < target_addresses; ++i)
            text += format("    \"{}:{}\",\n", target_host(i), target_port);
        text += "]\nhealth = false\n";
        if (setup.must_copy) text += "relay = \"copy\"\n";
        if (!setup.certificate.empty()) text += tls_key(setup.certificate);
        text += setup.keys;
    };
    const auto& way = setup.way;
    service("echo", way ? way->own_port : echo_port, setup.extra_ports, target_echo_port);
    if (setup.has_bulk) service("bulk", bulk_port, {}, target_bulk_port);
    if (way && !way->capture.empty()) {
        text += "\n[[capture]]\n" + way->capture;
        if (way->in_cgroup) text += format("cgroup = \"{}\"\n", world.cgroup);
    }
    return text;
}

static std::string haproxy_config(const World& world, const Setup& setup, bool splice) {
    // Two descriptors for each connection, one for each port, two for each pipe, and some.
    int pipes = splice ? 400 : 0;
    int connections_max = (world.descriptors_max - port_count(setup) - 2 * pipes - 400) / 2;
    std::string text = format("global\n    nbthread {}\n    maxconn {}\n", workers_of(world, setup),
                              connections_max);
    if (splice) text += format("    maxpipes {}\n", pipes);
    // Sessions are kept in tickets only, as the others do it. Of itself it would offer P-256 alone.
    const bool tls = !setup.certificate.empty();
    if (tls) text += "    tune.ssl.cachesize 0\n";
    const std::string secure =
        tls ? format(" ssl crt {} ssl-min-ver TLSv1.2 curves X25519:P-256", setup.certificate) : "";
    text += format("    stats socket {}/haproxy.sock expose-fd listeners\n", world.folder);
    text += format(
        "\ndefaults\n    mode tcp\n    backlog {}\n    balance roundrobin\n    timeout connect 5s\n"
        "    timeout client 1h\n    timeout server 1h\n",
        listener_backlog);
    text += "    option tcpka\n";  // as proxify does
    if (splice) text += "    option splice-auto\n";
    auto service = [&](const char* name, uint16_t port, const std::vector<PortSpan>& extra,
                       uint16_t target_port) {
        text += format("\nlisten {}\n    bind :::{} v4v6{}\n", name, port, secure);
        for (auto span : extra)
            text += format("    bind :::{}-{} v4v6{}\n", span.first, span.last, secure);
        for (int i = 0; i < target_addresses; ++i)
            text += format("    server t{} {}:{}\n", i, target_host(i), target_port);
    };
    service("echo", echo_port, setup.extra_ports, target_echo_port);
    if (setup.has_bulk) service("bulk", bulk_port, {}, target_bulk_port);
    return text;
}

static std::string nginx_config(const World& world, const Setup& setup) {
    std::string text = format(
        "load_module {};\ndaemon off;\npid {}/nginx.pid;\nerror_log stderr crit;\n"
        "worker_processes {};\n\nevents {{\n    worker_connections {};\n    multi_accept "
        "on;\n}}\n\n"
        "stream {{\n    access_log off;\n    tcp_nodelay on;\n    proxy_connect_timeout 5s;\n"
        "    proxy_timeout 1h;\n    proxy_half_close on;\n"
        "    proxy_socket_keepalive on;\n",
        world.nginx_stream_module, world.folder, workers_of(world, setup),
        world.descriptors_max - 100);
    // With several workers, a queue for each: they would wake each other otherwise.
    std::string listening = format("ipv6only=off so_keepalive=on backlog={}{}", listener_backlog,
                                   setup.pinned ? "" : " reuseport");
    if (!setup.certificate.empty()) {
        listening = "ssl " + listening;
        text += format(
            "    ssl_certificate {0};\n    ssl_certificate_key {0};\n"
            "    ssl_protocols TLSv1.2 TLSv1.3;\n",
            setup.certificate);
    }
    auto service = [&](const char* name, uint16_t port, const std::vector<PortSpan>& extra,
                       uint16_t target_port) {
        text += format("\n    upstream {} {{\n", name);
        for (int i = 0; i < target_addresses; ++i)
            text += format("        server {}:{};\n", target_host(i), target_port);
        text += format("    }}\n    server {{\n        listen [::]:{} {};\n", port, listening);
        for (auto span : extra)
            text += format("        listen [::]:{}-{} {};\n", span.first, span.last, listening);
        text += format("        proxy_pass {};\n    }}\n", name);
    };
    service("echo", echo_port, setup.extra_ports, target_echo_port);
    if (setup.has_bulk) service("bulk", bulk_port, {}, target_bulk_port);
    return text + "}\n";
}

std::string config_for(const World& world, const Subject& subject, const Setup& setup) {
    switch (subject.program) {
        case Program::none:
            return {};
        case Program::proxify:
            return proxify_config(world, setup);
        case Program::haproxy:
            return haproxy_config(world, setup, subject.variant);
        case Program::nginx:
            return nginx_config(world, setup);
    }
    return {};
}

std::vector<std::string> command_for(const World& world, const Subject& subject,
                                     const std::string& config_path) {
    switch (subject.program) {
        case Program::none:
            return {};
        case Program::proxify:
            if (subject.variant) return {world.proxify, "-b", "-c", config_path};
            return {world.proxify, "-c", config_path};
        case Program::haproxy:
            return {world.haproxy, "-W", "-db", "-f", config_path};
        case Program::nginx:
            return {world.nginx, "-p", world.folder, "-e", "stderr", "-c", config_path};
    }
    return {};
}

// ---- the stage

static Result<> write_file(const std::string& path, const std::string& text) {
    // As an editor that is careful does it: nobody ever reads half a file.
    auto beside = path + ".new";
    std::ofstream file(beside, std::ios::trunc);
    file << text << std::flush;
    if (!file || std::rename(beside.c_str(), path.c_str()) < 0)
        return fail(Error::from_errno(errno, "cannot write " + path));
    return {};
}

std::vector<int> Stage::subject_cores() const {
    if (!setup_.pinned) return {};
    return {world_->cores.back()};
}

std::vector<int> Stage::other_cores() const {
    if (!setup_.pinned) return {};
    return {world_->cores.front()};
}

Result<Stage> Stage::set(const World& world, const Subject& subject, const Setup& setup) {
    std::string reserved = format("{}-{},{},{}-{}", echo_port, bulk_port, steering_port,
                                  target_echo_port, target_bulk_port);
    for (auto span : setup.extra_ports) reserved += format(",{}-{}", span.first, span.last);
    TRY(enter_fresh_network(
        {.reserved_ports = reserved, .ephemeral_ports = setup.ephemeral_ports}));

    Stage stage(world, subject, setup);
    if (setup.way) TRY(stage.lay_way());
    TRY(stage.start_target());
    if (!stage.is_direct()) TRY(stage.start_subject());
    return stage;
}

Result<> Stage::run_line(const std::string& line, int network) {
    auto log = world_->folder + "/line.log";
    std::filesystem::remove(log);
    TRY_TO(shell, Process::start({.words = {"/bin/sh", "-ec",
                                            format("PROXIFY='{}'\n{}", world_->proxify, line)},
                                  .log = log,
                                  .network = network}));
    return shell.finish(10s);
}

/// Makes the place that clients are in, and what leads them to proxify.
Result<> Stage::lay_way() {
    const Way& way = *setup_.way;
    if (way.in_cgroup) {
        TRY_TO(made, Cgroup::make(world_->cgroup));
        cgroup_.emplace(std::move(made));
    }
    if (way.is_remote) {
        TRY_TO(network, make_network());
        client_network_ = std::move(network);
        TRY(
            run_line(format("ip link add cable type veth peer name cable netns /proc/{}/fd/{}\n"
                            "ip addr add {}/24 dev cable\nip link set cable up",
                            getpid(), client_network_.get(), way_address)));
        std::string line;
        for (int i = 0; i < client_addresses; ++i)
            line += format("ip addr add {}/24 dev cable\n", host_after(first_client_address, i));
        TRY(run_line(line + "ip link set cable up", client_network_.get()));
    } else {
        // The whole of it: at the loopback device a prefix is as good as its addresses.
        TRY(run_line(format("ip addr add {}/24 dev lo", way_address)));
    }
    return way.rules.empty() ? Result<>() : run_line(way.rules);
}

Result<> Stage::start_target() {
    auto log = world_->folder + "/target.log";
    std::filesystem::remove(log);
    tally_ = Fd::adopt(memfd_create("tally", MFD_CLOEXEC));
    if (!tally_ || ftruncate(tally_.get(), 4096) < 0)
        return fail(Error::from_errno(errno, "cannot make a memory file"));
    TRY_TO(target,
           Process::start({.words = {world_->target, "--port", format("{}", target_echo_port),
                                     "--tally-fd", format("{}", tally_.get())},
                           .cores = other_cores(),
                           .log = log,
                           .talks = true,
                           .keeps = {tally_.get()}}));
    TRY(target.read_line(5s));
    target_ = std::move(target);
    return {};
}

Result<> Stage::start_subject() {
    config_path_ = format("{}/{}.conf", world_->folder, subject_->id);
    auto log = format("{}/{}.log", world_->folder, subject_->id);
    std::filesystem::remove(log);
    TRY(write_file(config_path_, config_for(*world_, *subject_, setup_)));

    auto began = Clock::now();
    TRY_TO(process, Process::start({.words = command_for(*world_, *subject_, config_path_),
                                    .cores = subject_cores(),
                                    .log = log}));
    process_ = std::move(process);
    std::vector<uint16_t> ports{echo_port};
    for (auto span : setup_.extra_ports) ports.insert(ports.end(), {span.first, span.last});
    for (uint16_t port : ports) {
        while (!answers(port)) {
            TRY(rest(1ms));
            if (!process_->is_alive()) return process_->finish(1ms);
            if (Clock::now() - began > 60s)
                return fail(
                    Error::of(format("{} does not answer on port {}", subject_->title, port)));
        }
    }
    start_seconds_ = std::chrono::duration<double>(Clock::now() - began).count();
    return {};
}

bool Stage::answers(uint16_t port) {
    if (!setup_.way && setup_.certificate.empty()) return ask(port) == Answer::echo;
    std::vector<std::string> words{"ports", "--count", "1"};
    if (!setup_.certificate.empty())
        words = {"connect", "--tls", "1.3", "--seconds", "0.02", "--warm-up", "0"};
    auto address = echo_address();
    words.insert(words.end(), address.begin(), address.end());
    auto line = run_load(words, 10s);
    return line && line->ends_with("\"errors\": 0}");
}

Result<Process> Stage::start_load(std::vector<std::string> words) {
    auto log = world_->folder + "/load.log";
    std::filesystem::remove(log);
    words.insert(words.begin(), world_->load);
    std::string watched;
    for (int pid : measured()) watched += (watched.empty() ? "" : ",") + std::to_string(pid);
    words.insert(words.end(), {"--watch", watched, "--watch-beside", std::to_string(target_->pid()),
                               "--tally-fd", std::to_string(tally_.get())});
    return Process::start({.words = words,
                           .cores = other_cores(),
                           .log = log,
                           .talks = true,
                           .keeps = {tally_.get()},
                           .network = client_network_ ? client_network_.get() : -1,
                           .cgroup = cgroup_ ? cgroup_->folder() : ""});
}

Result<Process> Stage::start_beside(const std::string& shell_command) {
    return Process::start({.words = {"/bin/sh", "-c", shell_command},
                           .cores = other_cores(),
                           .log = world_->folder + "/beside.log"});
}

Result<std::string> Stage::run_load(std::vector<std::string> words, Patience patience) {
    TRY_TO(load, start_load(std::move(words)));
    TRY_TO(line, load.read_line(patience));
    TRY(load.finish(5s));
    return line;
}

Result<> Stage::reconfigure(const Setup& setup) {
    setup_ = setup;
    TRY(write_file(config_path_, config_for(*world_, *subject_, setup)));
    // proxify looks at the file by itself.
    if (subject_->program == Program::haproxy) process_->signal(SIGUSR2);
    if (subject_->program == Program::nginx) process_->signal(SIGHUP);
    return {};
}

Result<> Stage::strike() {
    if (process_) TRY(process_->stop());
    TRY(target_->stop());
    process_.reset();
    target_.reset();
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    if (cgroup_) TRY(cgroup_->remove());
    if (auto left = processes(); !left.empty())
        return fail(Error::of(format("{} left {} processes behind", subject_->title, left.size())));
    return {};
}

std::vector<int> Stage::measured() const {
    return process_ ? process_->family() : target_->family();
}

static std::vector<std::string> address_words(const std::string& host, uint16_t port) {
    return {"--address", host, "--addresses", "16", "--port", std::to_string(port)};
}

std::vector<std::string> Stage::echo_address() const {
    // From many addresses to one, so that no door meets another number of pairs than the rest.
    if (setup_.way)
        return {"--address",        way_address,
                "--port",           std::to_string(echo_port),
                "--from",           first_client_address,
                "--from-addresses", std::to_string(client_addresses)};
    return is_direct() ? address_words(first_target_address, target_echo_port)
                       : address_words("127.0.0.1", echo_port);
}

std::vector<std::string> Stage::bulk_address() const {
    return is_direct() ? address_words(first_target_address, target_bulk_port)
                       : address_words("127.0.0.1", bulk_port);
}

Answer ask(uint16_t port, const char* address) {
    Fd fd = Fd::adopt(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    timeval limit{.tv_sec = 1, .tv_usec = 0};
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    sockaddr_in to{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {}, .sin_zero = {}};
    inet_pton(AF_INET, address, &to.sin_addr);
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) < 0)
        return errno == ECONNREFUSED ? Answer::refused : Answer::nothing;
    char said = 'a', heard = 0;
    if (send(fd.get(), &said, 1, MSG_NOSIGNAL) != 1 || recv(fd.get(), &heard, 1, 0) != 1)
        return Answer::nothing;
    return heard == said ? Answer::echo : Answer::nothing;
}

}  // namespace proxify::bench
