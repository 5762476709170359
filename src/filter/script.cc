// SPDX-License-Identifier: Apache-2.0
// lua: what a user's script says. Its state is made when a session has something to show to it.
#include <optional>

#include "base/format.h"
#include "filter/makers.h"
#include "lua/script.h"

namespace proxify::filter {
namespace {

/// Null with `why` when the script, good when the file was checked, can not be had now.
struct Compiled {
    std::unique_ptr<const lua::Script> script;
    std::string why;
};

class ScriptElement final : public Element, public lua::Listener {
  public:
    ScriptElement(const Compiled& compiled, std::string_view name, const Facts& facts)
        : compiled_(compiled), name_(name), facts_(facts) {}

    Answer see(Direction direction, Bytes bytes, Time, Buffer& out) override {
        if (!compiled_.script) return {.verdict = Verdict::fail, .error = compiled_.why};
        Answer answer = to_answer(state().see(direction, text_of(bytes)), out);
        answer.took_long = count_work();
        return answer;
    }

    Answer end(Direction direction, Time, Buffer& out) override {
        if (!compiled_.script || !compiled_.script->has_finish()) return {};
        Answer answer = to_answer(state().finish(direction), out);
        if (answer.verdict == Verdict::change) answer.verdict = Verdict::pass;
        return answer;
    }

  private:
    /// Whether so much was done since others had their turn that they are to have it.
    bool count_work() {
        constexpr uint64_t a_call = 500, a_turn = 100'000;  // half a millisecond or so
        worked_ += a_call + state_->spent();
        if (worked_ < a_turn) return false;
        worked_ = 0;
        return true;
    }

    lua::State& state() {
        if (!state_)
            state_.emplace(*compiled_.script,
                           lua::Session{.id = facts_.session,
                                        .service = std::string(facts_.service),
                                        .client = facts_.client.ip.text(),
                                        .client_port = facts_.client.port,
                                        .original_dst = facts_.original_dst.ip.text(),
                                        .original_port = facts_.original_dst.port},
                           this);
        return *state_;
    }

    static Answer to_answer(lua::Outcome outcome, Buffer& out) {
        using Kind = lua::Outcome::Kind;
        Answer answer{.has_enough = outcome.has_enough};
        switch (outcome.kind) {
            case Kind::pass:
                break;
            case Kind::change:
                answer.verdict = Verdict::change;
                append(out, bytes_of(outcome.text));
                break;
            case Kind::drop:
                answer.verdict = Verdict::drop;
                break;
            case Kind::close:
                answer.verdict = Verdict::close;
                answer.reason = "a script said so";
                break;
            case Kind::fail:
                answer.verdict = Verdict::fail;
                answer.error = std::move(outcome.error);
                break;
        }
        return answer;
    }

    void said(std::string_view text) noexcept override {
        facts_.log.info("element_said", format("session {} of service {}: element {}: {}",
                                               facts_.session, facts_.service, name_, text));
    }

    const Compiled& compiled_;
    std::string_view name_;
    Facts facts_;
    std::optional<lua::State> state_;
    uint64_t worked_ = 0;  ///< instructions
};

class ScriptMaker final : public Maker {
  public:
    explicit ScriptMaker(const config::Element& spec) : name_(spec.name) {
        auto script =
            lua::Script::compile(spec.script, spec.code, {spec.memory, spec.instructions});
        if (script)
            compiled_.script = std::make_unique<const lua::Script>(*std::move(script));
        else
            compiled_.why = std::move(script).error();
    }

    std::unique_ptr<Element> make(const Facts& facts) const override {
        return std::make_unique<ScriptElement>(compiled_, name_, facts);
    }

    uint64_t appetite(Direction direction) const override {
        return !compiled_.script || compiled_.script->has_function(direction) ? everything
                                                                              : nothing;
    }

  private:
    std::string name_;
    Compiled compiled_;
};

}  // namespace

std::shared_ptr<const Maker> make_script(const config::Element& spec) {
    return std::make_shared<ScriptMaker>(spec);
}

}  // namespace proxify::filter
