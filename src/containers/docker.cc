// SPDX-License-Identifier: Apache-2.0
// The only file of this room that knows nlohmann/json. It is asked not to throw: every value is
// looked at before it is taken for something.
#include "containers/docker.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/format.h"

using Json = nlohmann::json;

namespace proxify::containers {

static constexpr size_t id_size_min = 12;

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

Result<http::Request> ask_for(const std::string& name) {
    const auto is_fit = [](char c) { return is_letter(c) || c == '_' || c == '.' || c == '-'; };
    if (name.empty() || name.size() > 255 || !is_letter(name[0]) ||
        !std::all_of(name.begin(), name.end(), is_fit))
        return fail(Error::of(format("\"{}\" can be no name of a container", name),
                              "names have letters, digits, and _ . - behind the first"));
    return http::Request{.path = "/containers/" + name + "/json", .query = {}};
}

http::Request ask_for_events(int64_t since) {
    // Kinds, and not single events: docker and podman call those differently.
    return {.path = "/events",
            .query = {{"since", std::to_string(since)},
                      {"filters", R"({"type":["container","network"]})"}}};
}

/// `json[name]`, or null when there is no such thing.
static const Json& member(const Json& json, const char* name) {
    static const Json nothing;
    if (!json.is_object()) return nothing;
    const auto found = json.find(name);
    return found == json.end() ? nothing : *found;
}

static std::string text_of(const Json& json) {
    return json.is_string() ? json.get<std::string>() : std::string();
}

static bool is_true(const Json& json) {
    return json.is_boolean() && json.get<bool>();
}

static std::string without_slash(std::string name) {
    if (name.starts_with('/')) name.erase(0, 1);
    return name;
}

static Json parse(std::string_view text) {
    return Json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
}

/// Those of one network, or of the top level, where old daemons put the first network's.
static void add_addresses(const Json& network, std::vector<Ip>& to) {
    for (const char* field : {"IPAddress", "GlobalIPv6Address"})
        if (const auto ip = Ip::parse(text_of(member(network, field)))) to.push_back(*ip);
}

static std::vector<Ip> addresses_of(const Json& settings) {
    std::vector<Ip> addresses;
    add_addresses(settings, addresses);
    if (const auto& networks = member(settings, "Networks"); networks.is_object())
        for (const auto& network : networks) add_addresses(network, addresses);
    std::sort(addresses.begin(), addresses.end(), [](const Ip& a, const Ip& b) {
        return a.is_v4 != b.is_v4 ? a.is_v4 : a.bytes < b.bytes;
    });
    addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
    return addresses;
}

static Error not_understood(const std::string& what) {
    return Error::of("what answers does not speak the Docker API: " + what,
                     "DOCKER_HOST=unix:///PATH names the socket of Docker or of podman; "
                     "containerd's own is none");
}

static Error refused(const http::Response& answer, const std::string& message) {
    return Error::of(format("the Docker API answers {}: {}", answer.status, message));
}

Result<std::optional<Container>> read_container(const std::string& name,
                                                const http::Response& answer) {
    const auto json = parse(answer.body);
    if (answer.status != 200) {
        const auto message = text_of(member(json, "message"));
        if (message.empty()) return fail(not_understood(format("status {}", answer.status)));
        // A path that nobody knows has the same status.
        if (answer.status != 404 || message == "page not found")
            return fail(refused(answer, message));
        return std::nullopt;
    }

    const auto& state = member(json, "State");
    Container found{.id = text_of(member(json, "Id")),
                    .name = without_slash(text_of(member(json, "Name")))};
    if (found.id.empty() || found.name.empty() || !state.is_object())
        return fail(not_understood("its answer describes no container"));
    if (found.name != name && (name.size() < id_size_min || !found.id.starts_with(name)))
        return std::nullopt;

    // Between two tries a container that is always started again counts as running for Docker.
    found.running = is_true(member(state, "Running")) && !is_true(member(state, "Restarting"));
    if (!found.running) return found;
    if (const auto& pid = member(state, "Pid"); pid.is_number_integer()) found.pid = pid.get<int>();
    found.addresses = addresses_of(member(json, "NetworkSettings"));
    return found;
}

std::optional<Event> read_event(std::string_view line) {
    const auto json = parse(line);
    const auto& actor = member(json, "Actor");
    const auto& attributes = member(actor, "Attributes");
    Event event{.action = text_of(member(json, "Action")), .about = {}};
    if (event.action.empty()) event.action = text_of(member(json, "status"));  // before API 1.22
    // Health checks do these all the time.
    if (event.action.empty() || event.action.starts_with("exec") ||
        event.action.starts_with("health_status"))
        return std::nullopt;

    for (const auto* who : {&member(json, "id"), &member(actor, "ID"), &member(attributes, "name"),
                            &member(attributes, "oldName"), &member(attributes, "container")})
        if (auto text = without_slash(text_of(*who)); !text.empty())
            event.about.push_back(std::move(text));
    return event;
}

bool concerns(const Event& event, const std::string& name, const std::optional<Container>& known) {
    return std::any_of(event.about.begin(), event.about.end(), [&](const std::string& who) {
        return who == name || (known && who == known->id) ||
               (name.size() >= id_size_min && who.starts_with(name));
    });
}

Error no_such_container(const std::string& name) {
    return Error::of(format("there is no container \"{}\"", name),
                     "`docker ps -a` or `podman ps -a` lists those that there are; "
                     "an id needs its first 12 digits");
}

Error cannot_ask(const std::string& socket_path, const std::string& why) {
    return Error::of(format("cannot ask the Docker API at {}: {}", socket_path, why),
                     "is Docker, or `podman system service`, running, and may this user ask it? "
                     "DOCKER_HOST=unix:///PATH names another socket");
}

Error may_not_ask(const std::string& socket_path) {
    // The way out is part of the sentence, as a log has no hints.
    return Error::of(format("cannot ask the Docker API at {}: Permission denied; where proxify has "
                            "a `user`, set its `group` to the group of that socket",
                            socket_path),
                     "`ls -l` shows the group; it is docker for Docker's own socket, and whoever "
                     "is in it can become root by way of Docker");
}

News news_of(const std::string& name, const Result<std::optional<Container>>& learnt,
             const std::optional<Container>& known) {
    if (!learnt) return {.name = name, .container = known, .error = learnt.error()};
    News news{.name = name, .container = *learnt};
    if (!news.container)
        news.error = no_such_container(name);
    else if (!news.container->running)
        news.error = Error::of(format("container \"{}\" is not running", name),
                               format("start it: docker start {}", name));
    return news;
}

static bool is_same(const News& one, const News& other) {
    return one.container == other.container &&
           (one.error ? one.error->text() : "") == (other.error ? other.error->text() : "");
}

std::optional<News> Memory::note(const Result<std::optional<Container>>& learnt) {
    if (learnt) {
        refused_since_.reset();
        is_forgotten_ = false;
    }
    return tell(news_of(name_, learnt, known()));
}

std::optional<News> Memory::note_refusal(Error refusal, Time now) {
    if (!refused_since_) refused_since_ = now;
    News news{.name = name_, .container = known(), .error = std::move(refusal)};
    if (news.container && now - *refused_since_ >= forgotten_after) {
        news.container.reset();
        is_forgotten_ = true;
    }
    if (is_forgotten_)
        news.error->what += format(
            " (nothing was heard of the container for {}, so what was known of it is forgotten)",
            to_text(forgotten_after));
    return tell(std::move(news));
}

std::optional<News> Memory::tell(News news) {
    if (told_ && is_same(*told_, news)) return std::nullopt;
    return *(told_ = std::move(news));
}

}  // namespace proxify::containers
