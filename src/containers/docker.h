// SPDX-License-Identifier: Apache-2.0
// What is said to the Docker Engine API and what its answers mean. Pure: text in, values out.
//
// The paths have no version in front. A daemon then speaks its own newest one, and refuses others:
// Docker 29 nothing below 1.44, Docker 20 nothing above 1.41. What is read here has been in
// all of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "containers/containers.h"
#include "http/message.h"

namespace proxify::containers {

/// An Error for what can be no name of a container; so nothing else gets into the path.
Result<http::Request> ask_for(const std::string& name);

/// All that happens to containers and networks, without end; first what happened since `since`, in
/// seconds of Unix time.
http::Request ask_for_events(int64_t since);

/// What became of ask_for(name): nullopt when the daemon knows no such container, an Error when
/// the answer says neither.
///
/// A daemon takes the first digits of an id for a name, any number of them. That is good for
/// people who type, but "cafe" may be a container that is gone, and an id that begins like this.
/// So a name is a name here, and an id has at least the 12 digits that `docker ps` shows.
Result<std::optional<Container>> read_container(const std::string& name,
                                                const http::Response& answer);

struct Event {
    std::string action;              ///< "start", "die", "connect"
    std::vector<std::string> about;  ///< names and ids
};

/// One line of the events; nullopt when it is none, or of a kind that changes nothing here.
std::optional<Event> read_event(std::string_view line);

/// Whether the container `name`, known as `known` so far, may be another after this.
bool concerns(const Event& event, const std::string& name, const std::optional<Container>& known);

Error no_such_container(const std::string& name);
/// When nobody can be asked, and why.
Error cannot_ask(const std::string& socket_path, const std::string& why);
/// When there is somebody, but not for this process.
Error may_not_ask(const std::string& socket_path);
/// What there is to tell; `known` is what was known before.
News news_of(const std::string& name, const Result<std::optional<Container>>& learnt,
             const std::optional<Container>& known);

/// How long addresses count that nobody will confirm any more.
inline constexpr Duration forgotten_after = 5min;

/// What is known of one container from question to question, and what of it was told.
class Memory {
  public:
    explicit Memory(std::string name) : name_(std::move(name)) {}

    const std::string& name() const { return name_; }
    std::optional<Container> known() const { return told_ ? told_->container : std::nullopt; }
    /// What became of a question. The news, if it is any.
    std::optional<News> note(const Result<std::optional<Container>>& learnt);
    /// There is somebody who knows, and this process may not ask. At first that changes nothing of
    /// what is known; see forgotten_after.
    std::optional<News> note_refusal(Error refusal, Time now);

  private:
    std::optional<News> tell(News news);

    std::string name_;
    std::optional<News> told_;
    std::optional<Time> refused_since_;  ///< since the container was heard of last
    bool is_forgotten_ = false;          ///< for that it was too long
};

}  // namespace proxify::containers
