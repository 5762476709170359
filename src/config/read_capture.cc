// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/format.h"
#include "config/draft.h"
#include "config/fields.h"

namespace proxify::config {
namespace {

using Type = CaptureType;

/// Which types a key means something to.
struct Use {
    std::string_view key;
    std::initializer_list<Type> types;
};
const Use uses[] = {
    {"ports", {Type::ingress, Type::redirect, Type::tproxy}},
    {"listen", {Type::connect, Type::ingress, Type::tunnel}},
    {"address", {Type::connect, Type::tunnel}},
    {"cidr", {Type::connect}},
    {"containers", {Type::connect}},
    {"from_containers", {Type::connect}},
    {"cgroup", {Type::connect}},
    {"exempt_cgroups", {Type::connect}},
    {"proxy", {Type::connect}},
    {"only_watch", {Type::connect}},
    {"events", {Type::connect}},
    {"report_every", {Type::connect}},
    {"runtime", {Type::connect}},
    {"to_port", {Type::ingress}},
    {"interfaces", {Type::ingress}},
    {"hook", {Type::ingress}},
};

void check_keys(const Table& table, Type type, Problems& problems) {
    for (const auto& [key, types] : uses) {
        auto found = std::ranges::find(table, key, &Member::key);
        if (found == table.end() || std::ranges::find(types, type) != types.end()) continue;
        problems.add(found->at, format("{}: means nothing to a capture of type \"{}\"", key,
                                       name_of(type, capture_type_names)));
    }
}

/// Paths of cgroups, names of interfaces: whether they exist is seen when they are needed.
void read_names(Fields& fields, std::string_view key, std::string_view what, size_t length_max,
                char first, std::vector<std::string>& out) {
    auto* value = fields.find(key);
    if (!value) return;
    for (const auto& one : one_or_many(*value)) {
        auto* text = one.as<std::string>();
        if (!text || text->empty() || text->size() > length_max || text->contains('\0') ||
            (first && !text->starts_with(first)))
            fields.expected(one, key, what);
        else
            out.push_back(*text);
    }
}

/// Where proxify takes the connections.
void read_listen(Fields& fields, std::string_view key, std::initializer_list<uint16_t> usual,
                 DraftCapture& draft) {
    auto* value = fields.find(key);
    if (!value) {
        draft.capture.listen = usual;
        return;
    }
    draft.listen_at = value->at;
    for (const auto& one : one_or_many(*value)) {
        auto* number = one.as<int64_t>();
        if (!number || *number < 1 || *number > 65535)
            fields.expected(one, key, "a port number from 1 to 65535");
        else
            draft.capture.listen.push_back(static_cast<uint16_t>(*number));
    }
    if (usual.size() == 1 && draft.capture.listen.size() > 1)
        fields.expected(*value, key, "one port");
    else if (one_or_many(*value).empty())
        fields.expected(*value, key, "at least one port");
}

/// At which address it listens, where that is not all of them.
void read_address(Fields& fields, Capture& capture) {
    auto* value = fields.find("address");
    if (!value) return;
    const bool is_connect = capture.type == Type::connect;
    auto* text = value->as<std::string>();
    const auto ip = text ? Ip::parse(*text) : std::nullopt;
    if (ip && (!is_connect || ip->is_loopback()))
        capture.address = ip;
    else
        fields.expected(*value, "address",
                        is_connect ? "an address of loopback, which is where connections are led"
                                   : "an IP address of this host");
}

/// With `other` proxify does not get the connections.
void check_alone(Fields& fields, std::string_view other) {
    for (std::string_view key : {"service", "listen", "address", "proxy"})
        if (auto* value = fields.find(key); value && key != other && fields.find(other))
            fields.problems().add(
                value->at, format("{}: with {} proxify itself gets no connections", key, other),
                format("take out {} or {}", key, other));
}

void read_connect(Fields& fields, DraftCapture& draft) {
    Capture& capture = draft.capture;
    constexpr auto a_path = "the full path of a cgroup";
    std::vector<std::string> cgroup;
    fields.words("cidr", read_destination, capture.destinations);
    fields.words("containers", read_container, capture.containers);
    fields.words("from_containers", read_container, capture.from_containers);
    for (const auto& one : capture.from_containers)
        if (one.port != 0)
            fields.problems().add(
                fields.find("from_containers")->at,
                format("from_containers: {}:{} has a port, which is one of a destination", one.name,
                       one.port),
                "write it without the port, and the destination in containers or cidr");
    read_names(fields, "cgroup", a_path, 4096, '/', cgroup);
    if (!cgroup.empty()) capture.cgroup = cgroup.front();
    if (cgroup.size() > 1) fields.expected(*fields.find("cgroup"), "cgroup", a_path);
    read_names(fields, "exempt_cgroups", "the full path of a cgroup, or several", 4096, '/',
               capture.exempt_cgroups);
    if (auto* value = fields.find("proxy")) {
        auto* text = value->as<std::string>();
        auto proxy = read_proxy(text ? *text : "");
        if (!text)
            fields.expected(*value, "proxy", "an address and a port");
        else if (!proxy)
            fields.not_understood(*value, "proxy", proxy.error());
        else
            capture.proxy = *proxy;
    }
    fields.flag("events", capture.events);
    fields.duration("report_every", {.least = 100ms}, capture.report_every);
    static constexpr Name<bool> runtimes[] = {{"docker", true}, {"podman", true}};
    if (auto* value = fields.find("runtime"); value && value->as<std::string>()) {
        capture.runtime = *value->as<std::string>();
        if (capture.runtime == "containerd" || capture.runtime == "cri-o")
            fields.problems().add(
                value->at, format("runtime: {} is not supported yet", capture.runtime),
                "docker and podman are; or name the addresses of the container in cidr");
        else if (bool known = false; !fields.choice("runtime", runtimes, known))
            return;
    } else if (value) {
        fields.expected(*value, "runtime", R"("docker" or "podman")");
    }
    fields.flag("only_watch", capture.only_watch);
    check_alone(fields, "proxy");
    if (capture.only_watch) check_alone(fields, "only_watch");
    if (!fields.find("proxy") && !capture.only_watch) read_listen(fields, "listen", {15001}, draft);
    read_address(fields, capture);
}

void read_ingress(Fields& fields, DraftCapture& draft, Position at) {
    Capture& capture = draft.capture;
    fields.ports("ports", capture.ports, draft.ports_at);
    if (auto* ports = fields.find("ports"); !ports || one_or_many(*ports).empty())
        fields.problems().add(ports ? ports->at : at, "ports: the capture has none",
                              "list the ports that clients dial: ports = [8000]");
    uint16_t to_port = 0;
    if (fields.port("to_port", to_port)) {
        capture.to_port = to_port;
        draft.listen_at = fields.find("to_port")->at;
    }
    read_names(fields, "interfaces", "the name of an interface, or several", 15, 0,
               capture.interfaces);
    fields.choice("hook", tc_hook_names, capture.hook);
    check_alone(fields, "to_port");
    if (!fields.find("to_port")) read_listen(fields, "listen", {15004}, draft);
}

}  // namespace

DraftCapture read_capture(const Value& value, const Table& table, Problems& problems) {
    Fields fields(table, capture_section, problems);
    DraftCapture draft{.at = value.at};
    Capture& capture = draft.capture;
    if (!fields.find("type")) {
        problems.add(value.at, "the capture has no type",
                     R"(add type = "connect", "ingress", "redirect", "tproxy" or "tunnel")");
        return draft;
    }
    if (!fields.choice("type", capture_type_names, capture.type)) return draft;
    check_keys(table, capture.type, problems);
    if (auto* service = fields.find("service")) {
        draft.service_at = service->at;
        if (auto* name = service->as<std::string>(); name && !name->empty())
            capture.service = *name;
        else
            fields.expected(*service, "service", "the name of a service");
    }
    switch (capture.type) {
        case Type::connect:
            read_connect(fields, draft);
            break;
        case Type::ingress:
            read_ingress(fields, draft, value.at);
            break;
        case Type::redirect:
        case Type::tproxy:
            read_listen(fields, "ports", {15002, 15006}, draft);
            break;
        case Type::tunnel:
            read_listen(fields, "listen", {18001}, draft);
            read_address(fields, capture);
            break;
    }
    return draft;
}

}  // namespace proxify::config
