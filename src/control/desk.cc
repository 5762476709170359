// SPDX-License-Identifier: Apache-2.0
#include "control/desk.h"

#include <algorithm>
#include <atomic>
#include <charconv>

#include "base/format.h"
#include "control/reports.h"
#include "control/server.h"

namespace proxify::control {

using http::Answer;
using http::Request;
using http::Response;

namespace {

template <class T>
Response page(const T& value) {
    return {.status = 200, .body = report::to_json(value)};
}

Response trouble(const Error& error, unsigned status) {
    std::string what = error.what;
    for (const auto& cause : error.causes) what += ": " + cause;
    return {.status = status, .body = report::to_json(report::Trouble{what, error.hint})};
}

std::string value_of(const Request& request, const std::string& name) {
    auto found = request.query.find(name);
    return found == request.query.end() ? std::string() : found->second;
}

template <class T>
std::optional<T> number_of(const Request& request, const std::string& name) {
    const auto text = value_of(request, name);
    T value{};
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) return {};
    return value;
}

template <class T>
void reply(const Answer& answer, Result<T> result) {
    answer([result = std::move(result)] {
        return result ? page(*result) : trouble(result.error(), 409);
    });
}

/// Of `all` only what is about the service that was asked for, if one was.
template <class List, class T>
void reply_of_service(const Server& server, const Request& request, const Answer& answer, List list,
                      std::vector<T> List::* all, std::string T::* name) {
    const auto wanted = value_of(request, "service");
    if (!wanted.empty()) {
        const auto services = server.services().services;
        if (std::ranges::find(services, wanted, &report::Service::name) == services.end())
            return answer([wanted] {
                return trouble(Error::of(format("there is no service \"{}\"", wanted),
                                         "`proxify services` lists them"),
                               404);
            });
        std::erase_if(list.*all, [&](const T& one) { return one.*name != wanted; });
    }
    answer([list = std::move(list)] { return page(list); });
}

/// Sessions of all workers, on their way to whoever asked. Each worker has a list of its own and a
/// share in this; the last one that lets go of it sends the answer.
class Survey {
  public:
    Survey(const Request& request, size_t workers, Answer answer, std::shared_ptr<void> turn)
        : service(value_of(request, "service")),
          target(value_of(request, "target")),
          client(value_of(request, "client")),
          limit_(number_of<size_t>(request, "limit").value_or(1'000'000)),
          found_(workers),
          answer_(std::move(answer)),
          turn_(std::move(turn)) {}
    Survey(const Survey&) = delete;
    ~Survey() {
        answer_([found = std::move(found_), limit = limit_, turn = std::move(turn_)] {
            return page(merged(found, limit));
        });
    }

    /// On the thread of this worker, which shows its newest first.
    void see(size_t index, uint64_t worker, const session::Session& session) {
        auto view = session.view();
        if (!wants(view)) return;
        auto& [number, views, matching] = found_[index];
        number = worker;
        ++matching;
        // The oldest are wanted: those that came last here.
        if (views.size() >= 2 * limit_) views.erase(views.begin(), views.end() - limit_of(views));
        views.push_back(std::move(view));
    }

  private:
    using Views = std::vector<session::Session::View>;
    struct Found {
        uint64_t worker = 0;  ///< its number
        Views views;
        uint64_t matching = 0;
    };

    ptrdiff_t limit_of(const Views& views) const {
        return static_cast<ptrdiff_t>(std::min(limit_, views.size()));
    }

    bool wants(const session::Session::View& view) const {
        return (service.empty() || (view.service && *view.service == service)) &&
               (target.empty() || (view.target && view.target->text() == target)) &&
               (client.empty() || view.client.ip.text() == client || view.client.text() == client);
    }

    static report::Sessions merged(const std::vector<Found>& found, size_t limit) {
        report::Sessions out;
        for (size_t i = 0; i < found.size(); ++i) {
            for (const auto& view : found[i].views)
                out.sessions.push_back(report_session(view, found[i].worker));
            out.matching += found[i].matching;
        }
        std::ranges::sort(out.sessions, {}, &report::Session::id);
        if (out.sessions.size() > limit) out.sessions.resize(limit);
        return out;
    }

    const std::string service, target, client;
    size_t limit_;
    std::vector<Found> found_;  ///< by worker
    Answer answer_;
    std::shared_ptr<void> turn_;
};

void list_sessions(Server& server, const Request& request, const Answer& answer) {
    if (request.query.contains("limit") && !number_of<size_t>(request, "limit"))
        return answer([] { return trouble(Error::of("limit is a number of sessions"), 400); });
    const bool is_in_line = server.survey([&server, request, answer](std::shared_ptr<void> turn) {
        const auto workers = server.everyone();
        auto survey = std::make_shared<Survey>(request, workers.size(), answer, std::move(turn));
        for (size_t i = 0; i < workers.size(); ++i)
            workers[i]->loop().post([worker = workers[i], survey, i] {
                worker->visit([survey, i, number = worker->number()](session::Session& session) {
                    survey->see(i, number, session);
                });
            });
    });
    if (!is_in_line)
        answer([] {
            return trouble(Error::of("too many have sessions listed at the moment", "ask again"),
                           503);
        });
}

/// Looks for one session everywhere; the last worker that has looked says what came of it.
struct Search {
    Search(uint64_t which, Answer to) : id(which), answer(std::move(to)) {}
    Search(const Search&) = delete;
    ~Search() {
        if (found)
            answer([id = id] { return page(report::Done{format("session {} is ended", id), {}}); });
        else
            answer([id = id] {
                return trouble(Error::of(format("there is no session {}", id),
                                         "`proxify sessions` lists them"),
                               404);
            });
    }
    const uint64_t id;
    std::atomic<bool> found = false;
    Answer answer;
};

void end_session(Server& server, const Request& request, const Answer& answer) {
    auto id = number_of<uint64_t>(request, "session");
    if (!id)
        return answer([] {
            return trouble(
                Error::of("a session is named by its number", "`proxify sessions` lists them"),
                400);
        });
    auto search = std::make_shared<Search>(*id, answer);
    for (auto* worker : server.everyone())
        worker->loop().post([worker, search] {
            worker->visit([search](session::Session& session) {
                if (session.id() != search->id) return;
                search->found = true;
                session.interrupt({Party::operator_, Stage::data, "killed"});
            });
        });
}

/// "198.51.100.7:40000", or the address alone.
std::optional<Address> client_of(const std::string& text) {
    if (auto address = Address::parse(text)) return address;
    constexpr uint16_t any_port = 50000;
    if (auto ip = Ip::parse(text)) return Address{*ip, any_port};
    return {};
}

void explain(Server& server, const Request& request, const Answer& answer) {
    auto client = client_of(value_of(request, "client"));
    auto destination = Address::parse(value_of(request, "destination"));
    if (!client || !destination)
        return answer([] {
            return trouble(Error::of("a client is an address, and a destination an address and a "
                                     "port",
                                     "like 198.51.100.7 203.0.113.1:5001, or ::1 [::1]:5001"),
                           400);
        });
    reply(answer, server.explain(*client, *destination));
}

void reload(Server& server, const Request& request, const Answer& answer) {
    if (value_of(request, "dry_run") == "sent")
        return reply(answer,
                     server.plan_change(config::parse(request.body, value_of(request, "name"))));
    if (request.query.contains("dry_run")) return reply(answer, server.plan_reload());
    std::optional<Duration> watch;
    if (request.query.contains("rollback_if_down_ms")) {
        auto milliseconds = number_of<uint32_t>(request, "rollback_if_down_ms");
        if (!milliseconds)
            return answer([] {
                return trouble(Error::of("rollback_if_down_ms is a number of milliseconds"), 400);
            });
        watch = std::chrono::milliseconds(*milliseconds);
    }
    reply<report::Reload>(answer, server.reload_now(watch));
}

void set_order(Server& server, const Request& request, const Answer& answer) {
    const auto target = value_of(request, "target");
    if (request.path == "/v1/drain")
        return reply(answer, server.order(target, {.is_drained = true}));
    if (request.path == "/v1/undrain")
        return reply(answer, server.order(target, {.is_drained = false}));
    Server::NewOrder wanted{.sets_weight = true};
    if (value_of(request, "weight") != "file") {
        auto weight = number_of<uint32_t>(request, "weight");
        if (!weight || *weight > config::weight_max)
            return answer([] {
                return trouble(
                    Error::of(format("a weight is a number from 0 to {}", config::weight_max),
                              "or the word file, for what targets.toml says"),
                    400);
            });
        wanted.weight = weight;
    }
    reply(answer, server.order(target, wanted));
}

}  // namespace

std::vector<Error> Desk::open(const config::Admin& doors, std::optional<unsigned> owner) {
    std::vector<Error> not_as_wanted;
    if (doors.socket != have_.socket || doors.group != have_.group)
        if (auto opened = open_socket(doors, owner); !opened)
            not_as_wanted.push_back(std::move(opened).error());
    if (doors.http != have_.http)
        if (auto opened = open_http(doors); !opened)
            not_as_wanted.push_back(std::move(opened).error());
    return not_as_wanted;
}

Desk::Door Desk::make_door() {
    return std::make_unique<http::Server>(
        [this](const http::Request& request, http::Door door, const http::Answer& answer) {
            take(request, door, answer);
        });
}

Result<> Desk::open_socket(const config::Admin& doors, std::optional<unsigned> owner) {
    Door door;
    Result<> opened;
    if (!doors.socket.empty()) {
        const bool is_ours = socket_ && doors.socket == have_.socket;
        door = make_door();
        opened =
            door->listen(doors.socket, {.group = doors.group, .owner = owner, .is_ours = is_ours});
        // Where it is the group that is wrong, the owner comes in all the same.
        const bool is_open =
            opened || (!doors.group.empty() &&
                       door->listen(doors.socket, {.owner = owner, .is_ours = is_ours}));
        if (!is_open) return opened;
        if (is_started_) door->start();
    }
    socket_ = std::move(door);
    have_.socket = doors.socket;
    have_.group = doors.group;
    return opened;
}

Result<> Desk::open_http(const config::Admin& doors) {
    Door door;
    if (doors.http) {
        door = make_door();
        TRY(door->listen(*doors.http));
        if (is_started_) door->start();
    }
    http_ = std::move(door);
    have_.http = doors.http;
    return {};
}

void Desk::start() {
    is_started_ = true;
    for (auto* door : {&socket_, &http_})
        if (*door) (*door)->start();
}

void Desk::take(const Request& request, http::Door door, const Answer& answer) {
    using Ask = void (*)(Server&, const Request&, const Answer&);
    struct Page {
        std::string_view path;
        bool changes;
        Ask ask;
    };
    static constexpr Page pages[] = {
        {"/v1/status", false,
         [](Server& server, const Request&, const Answer& answer) {
             answer([status = server.status()] { return page(status); });
         }},
        {"/v1/services", false,
         [](Server& server, const Request& request, const Answer& answer) {
             reply_of_service(server, request, answer, server.services(),
                              &report::Services::services, &report::Service::name);
         }},
        {"/v1/targets", false,
         [](Server& server, const Request& request, const Answer& answer) {
             reply_of_service(server, request, answer, server.targets(), &report::Targets::targets,
                              &report::Target::service);
         }},
        {"/v1/ports", false,
         [](Server& server, const Request& request, const Answer& answer) {
             reply_of_service(server, request, answer, server.ports(), &report::Ports::ports,
                              &report::Port::service);
         }},
        {"/v1/steering", false,
         [](Server& server, const Request&, const Answer& answer) {
             reply(answer, server.steering());
         }},
        {"/v1/sessions", false, list_sessions},
        {"/v1/explain", false, explain},
        {"/metrics", false,
         [](Server& server, const Request&, const Answer& answer) {
             answer([input = server.metrics()] {
                 return Response{.type = std::string(metrics::content_type),
                                 .body = metrics::render(input)};
             });
         }},
        {"/healthz", false,
         [](Server&, const Request&, const Answer& answer) {
             answer([] { return Response{.type = "text/plain", .body = "ok\n"}; });
         }},
        {"/readyz", false,
         [](Server& server, const Request&, const Answer& answer) {
             answer([ready = server.is_ready()] {
                 return Response{.status = ready ? 200u : 503u,
                                 .type = "text/plain",
                                 .body = ready ? "ready\n" : "not ready\n"};
             });
         }},
        {"/v1/kill", true, end_session},
        {"/v1/reload", true, reload},
        {"/v1/drain", true, set_order},
        {"/v1/undrain", true, set_order},
        {"/v1/set-weight", true, set_order},
    };
    const auto* found = std::ranges::find(pages, std::string_view(request.path), &Page::path);
    auto refuse = [&](unsigned status, std::string what, std::string hint) {
        answer([error = Error::of(std::move(what), std::move(hint)), status] {
            return trouble(error, status);
        });
    };
    if (found == std::end(pages))
        return refuse(404, "there is nothing at this path", "docs/operations.md has the list");
    const bool reads = request.method == "GET" || request.method == "HEAD";
    if (found->changes && door == http::Door::tcp)
        return refuse(403, "nothing can be changed from here", "use the admin socket");
    if (reads == found->changes)
        return refuse(405, format("this is for {}", found->changes ? "POST" : "GET"), "");
    server_.post([&server = server_, request, answer, page = found] {
        if (page->changes && page->ask != end_session && server.is_leaving())
            return reply<report::Done>(
                answer, fail(Error::of("proxify is leaving, and nothing can be changed any more",
                                       "`proxify sessions` shows what it waits for")));
        page->ask(server, request, answer);
    });
}

}  // namespace proxify::control
