// SPDX-License-Identifier: Apache-2.0
// From targets.toml to a Config, in three steps: the text becomes a tree (reader), each section of
// the tree becomes its part of a Draft (read_*), and then the draft is judged as a whole (judge). A
// wrong value is noted and reading goes on, so that one look at the file finds everything.
#include "config/config.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/fd.h"
#include "base/format.h"
#include "config/draft.h"
#include "lua/script.h"

namespace proxify::config {
namespace {

Config to_config(Draft draft) {
    Config config = std::move(draft.config);
    config.services.reserve(draft.services.size());
    for (auto& draft_service : draft.services) {
        if (!draft.default_service.empty() && draft_service.service.name == draft.default_service)
            config.default_service = config.services.size();
        config.services.push_back(std::move(draft_service.service));
    }
    for (auto& draft_capture : draft.captures)
        config.captures.push_back(std::move(draft_capture.capture));
    for (auto& service : config.services)
        for (auto& target : service.targets)
            if (target.port.is_tunnel()) target.port.value = config.tunnel->port;
    return config;
}

// A megabyte holds 60 000 ports, and 6 MB as many services. The tree of a file takes up to a
// hundred times its size, and a reload must not take the memory that a running proxify needs.
constexpr size_t file_bytes_max = 8 << 20;

/// The file itself may be anything that can be read to its end, as a pipe of the shell. What is
/// named in a file must be a regular one: whoever named it does not wait for a writer.
enum class Kind { any, regular };

Result<std::string> read_file(const std::string& path, Kind kind, const char* hint_if_missing) {
    auto cannot = "cannot read " + path;
    const int no_wait = kind == Kind::regular ? O_NONBLOCK : 0;
    auto fd = Fd::adopt(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | no_wait));
    if (!fd) {
        int error_number = errno;
        return fail(
            Error::from_errno(error_number, cannot, error_number == ENOENT ? hint_if_missing : ""));
    }
    struct stat info{};
    const bool is_known = ::fstat(fd.get(), &info) == 0;
    if (kind == Kind::regular && !(is_known && S_ISREG(info.st_mode)))
        return fail(Error::of(format("{}: it is {}", cannot,
                                     S_ISDIR(info.st_mode) ? "a directory" : "no regular file"),
                              "name a file that holds it"));
    if (is_known && S_ISREG(info.st_mode) && info.st_size > ssize_t{file_bytes_max})
        return fail(Error::of(cannot + ": it is larger than 8 MiB"));

    std::string text;
    while (true) {
        constexpr size_t step = 1 << 16;
        auto had = text.size();
        text.resize(had + step);
        auto got = ::read(fd.get(), text.data() + had, step);
        int error_number = errno;
        text.resize(had + static_cast<size_t>(std::max<ssize_t>(got, 0)));
        if (got == 0) return text;
        if (got < 0 && error_number != EINTR) return fail(Error::from_errno(error_number, cannot));
        if (text.size() > file_bytes_max)
            return fail(Error::of(cannot + ": it is larger than 8 MiB"));
    }
}

/// The code of each script, which is tried; a relative path is meant from the folder of `file`.
void read_scripts(Draft& draft, const std::string& file, Problems& problems) {
    const auto folder = std::filesystem::path(file).parent_path();
    for (auto& draft_service : draft.services) {
        for (size_t i = 0; i < draft_service.filters_at.size(); ++i) {
            auto& element = draft_service.service.filters[i];
            if (element.script.empty()) continue;
            element.script = folder / element.script;
            auto code = read_file(element.script, Kind::regular,
                                  "a relative path begins in the folder of the file that names it");
            if (!code) {
                problems.add(draft_service.filters_at[i], "filters.script: " + code.error().what,
                             code.error().hint);
                continue;
            }
            element.code = *std::move(code);
            auto script = lua::Script::compile(element.script, element.code,
                                               {element.memory, element.instructions});
            if (!script)
                problems.add(draft_service.filters_at[i], "filters.script: " + script.error());
        }
    }
}

/// What certificates and keys are in the files that are named, which are tried.
class PemReader {
  public:
    PemReader(const std::string& file, Problems& problems)
        : folder_(std::filesystem::path(file).parent_path()), problems_(problems) {}

    void read(tls::Pem& file, std::string_view key, Position at) {
        file.name = folder_ / file.name;
        auto text = read_file(file.name, Kind::regular,
                              "a relative path begins in the folder of the file that names it");
        if (text)
            file.text = *std::move(text);
        else
            complain(key, at, text.error());
    }
    void read(std::optional<tls::Pem>& file, std::string_view key, Position at) {
        if (file) read(*file, key, at);
    }
    void read(tls::Identity& identity, std::string_view key, Position at) {
        const bool is_one = identity.key.name == identity.certificate.name;
        read(identity.certificate, key, at);
        if (is_one)
            identity.key = identity.certificate;
        else
            read(identity.key, key, at);
    }
    void complain(std::string_view key, Position at, const Error& error) {
        is_good_ = false;
        problems_.add(at, format("{}: {}", key, error.what), error.hint);
    }
    /// Whether all was well since this was asked last.
    bool was_good() { return std::exchange(is_good_, true); }

  private:
    std::filesystem::path folder_;
    Problems& problems_;
    bool is_good_ = true;
};

void read_tunnel_certificates(Draft& draft, PemReader& reader) {
    if (!draft.config.tunnel) return;
    auto& tunnel = *draft.config.tunnel;
    if (tunnel.identity.certificate.name.empty() || tunnel.ca.name.empty()) return;
    reader.read(tunnel.identity, "tunnel", *draft.tunnel_at);
    reader.read(tunnel.ca, "tunnel.ca", *draft.tunnel_at);
    if (!reader.was_good()) return;
    if (auto opened = tls::ServerContext::open(tunnel.server_settings()); !opened)
        reader.complain("tunnel", *draft.tunnel_at, opened.error());
    else if (auto client = tls::ClientContext::open(tunnel.client_settings()); !client)
        reader.complain("tunnel", *draft.tunnel_at, client.error());
    reader.was_good();
}

void read_certificates(Draft& draft, const std::string& file, Problems& problems) {
    PemReader reader(file, problems);
    read_tunnel_certificates(draft, reader);
    for (auto& one : draft.services) {
        auto& service = one.service;
        const auto [at, target_at] = std::pair(one.tls_at, one.target_tls_at);
        if (service.tls) {
            auto& settings = service.tls->settings;
            for (auto& identity : settings.identities) reader.read(identity, "tls", at);
            reader.read(settings.client_ca, "tls.client_ca", at);
            reader.read(settings.crl, "tls.crl", at);
            if (reader.was_good() && !settings.identities.empty())
                if (auto opened = tls::ServerContext::open(settings); !opened)
                    problems.add(at, "tls: " + opened.error().what, opened.error().hint);
        }
        if (service.target_tls) {
            auto& settings = service.target_tls->settings;
            if (settings.identity) reader.read(*settings.identity, "target_tls", target_at);
            reader.read(settings.ca, "target_tls.ca", target_at);
            reader.read(settings.crl, "target_tls.crl", target_at);
            if (reader.was_good())
                if (auto opened = tls::ClientContext::open(settings); !opened)
                    problems.add(target_at, "target_tls: " + opened.error().what,
                                 opened.error().hint);
        }
    }
}

}  // namespace

Result<Config> load(const std::string& path) {
    TRY_TO(text, read_file(path, Kind::any,
                           "proxify reads ./targets.toml; another file is named with -c FILE"));
    return parse(text, path);
}

Result<Config> parse(std::string_view text, const std::string& name) {
    TRY_TO(file, read_toml(text, name));
    Problems problems(name);
    auto draft = read_file_sections(file, problems);
    read_scripts(draft, name, problems);
    read_certificates(draft, name, problems);
    judge(draft, problems);
    if (!problems.empty()) return fail(std::move(problems).to_error());
    // From here on every value is in its bounds and every reference leads somewhere.
    return to_config(std::move(draft));
}

std::vector<const tls::Pem*> pems_of(const Config& config) {
    std::vector<const tls::Pem*> all;
    auto add = [&](const std::optional<tls::Pem>& one) {
        if (one) all.push_back(&*one);
    };
    auto add_both = [&](const tls::Identity& one) {
        all.push_back(&one.certificate);
        all.push_back(&one.key);
    };
    for (const auto& service : config.services) {
        if (service.tls) {
            for (const auto& one : service.tls->settings.identities) add_both(one);
            add(service.tls->settings.client_ca);
            add(service.tls->settings.crl);
        }
        if (service.target_tls) {
            if (service.target_tls->settings.identity)
                add_both(*service.target_tls->settings.identity);
            add(service.target_tls->settings.ca);
            add(service.target_tls->settings.crl);
        }
    }
    if (config.tunnel) {
        add_both(config.tunnel->identity);
        all.push_back(&config.tunnel->ca);
    }
    return all;
}

bool Tunnel::may_reach(uint16_t port_here) const {
    return ports.empty() || std::ranges::any_of(ports, [&](const PortRange& range) {
               return range.first <= port_here && port_here <= range.last;
           });
}

// Both ends are ours, so that nothing older than TLS 1.3 has to be spoken.

tls::ServerSettings Tunnel::server_settings() const {
    return {.identities = {identity},
            .min_version = tls::Version::tls_1_3,
            .client_ca = ca,
            .require_client_certificate = true,
            .allowed_names = allowed_names};
}

tls::ClientSettings Tunnel::client_settings() const {
    return {.ca = ca,
            .identity = identity,
            .min_version = tls::Version::tls_1_3,
            .allowed_names = allowed_names};
}

std::map<uint16_t, CaptureType> capture_listeners(const Config& config) {
    std::map<uint16_t, CaptureType> listeners;
    for (const auto& capture : config.captures)
        for (uint16_t port : capture.listen) listeners.emplace(port, capture.type);
    return listeners;
}

std::map<uint16_t, Ip> capture_addresses(const Config& config) {
    std::map<uint16_t, Ip> addresses;
    for (const auto& capture : config.captures)
        for (uint16_t port : capture.listen)
            if (capture.address) addresses.emplace(port, *capture.address);
    return addresses;
}

Result<> check_listener_port(const Config& config, uint16_t listener_port) {
    if (capture_listeners(config).contains(listener_port))
        return fail(Error::of(
            format("a [[capture]] listens on port {}, which is the listener's own", listener_port),
            "choose another port for one of them"));
    for (const auto& capture : config.captures)
        for (const auto& captured : capture.ports)
            for (const auto& service : config.services)
                for (const auto& steered : service.ports)
                    if (captured.first <= steered.last && steered.first <= captured.last)
                        return fail(Error::of(
                            format(
                                "port {} of service \"{}\" is steered with -b, and a [[capture]] "
                                "takes it at interfaces",
                                std::max(captured.first, steered.first), service.name),
                            "one of them is enough: take it out of the capture, or leave -b away"));
    for (const auto& service : config.services) {
        for (auto range : service.ports) {
            if (listener_port < range.first || listener_port > range.last) continue;
            return fail(
                Error::of(format("service \"{}\" lists port {}, which is the listener's own",
                                 service.name, listener_port),
                          "choose another listener with -p, or take the port out of the service;\n"
                          "what arrives at the listener's own port goes to default_service"));
        }
    }
    return {};
}

}  // namespace proxify::config
