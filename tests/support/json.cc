// SPDX-License-Identifier: Apache-2.0
#include "support/json.h"

#include <cctype>

namespace proxify::test {
namespace {

// Each function takes its piece off the front of the text, or says false.
class Reader {
  public:
    explicit Reader(std::string_view text) : rest_(text) {}

    bool any(Json& value) {
        skip_space();
        const std::string_view before = rest_;
        const char first = rest_.empty() ? '\0' : rest_[0];
        if (first == '"') {
            value.kind = Json::Kind::string;
            return string(value.text);
        }
        bool ok = first == '{'   ? object(value)
                  : first == '[' ? array(value)
                                 : word("null") || boolean(value) || number(value);
        value.text = before.substr(0, before.size() - rest_.size());
        return ok;
    }

    bool at_end() {
        skip_space();
        return rest_.empty();
    }

  private:
    bool object(Json& value) {
        value.kind = Json::Kind::object;
        if (!take('{')) return false;
        if (take('}')) return true;
        do {
            std::string name;
            Json member;
            skip_space();
            if (!string(name) || !take(':') || !any(member)) return false;
            if (!value.members.emplace(std::move(name), std::move(member)).second) return false;
        } while (take(','));
        return take('}');
    }

    bool array(Json& value) {
        value.kind = Json::Kind::array;
        if (!take('[')) return false;
        if (take(']')) return true;
        do {
            if (!any(value.items.emplace_back())) return false;
        } while (take(','));
        return take(']');
    }

    bool boolean(Json& value) {
        value.kind = Json::Kind::boolean;
        return word("true") || word("false");
    }

    bool string(std::string& value) {
        if (rest_.empty() || rest_[0] != '"') return false;
        for (size_t i = 1; i < rest_.size(); ++i) {
            const char c = rest_[i];
            if (c == '"') {
                rest_.remove_prefix(i + 1);
                return true;
            }
            if (static_cast<unsigned char>(c) < 0x20) return false;
            if (c != '\\')
                value += c;
            else if (!escape(i, value))
                return false;
        }
        return false;
    }

    // rest_[i] is the backslash; leaves i on the last character of the escape.
    bool escape(size_t& i, std::string& value) {
        if (++i >= rest_.size()) return false;
        constexpr std::string_view letters = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
        if (size_t known = letters.find(rest_[i]); known != letters.npos) {
            value += meanings[known];
            return true;
        }
        if (rest_[i] != 'u' || i + 4 >= rest_.size()) return false;
        for (int digit = 0; digit < 4; ++digit)
            if (!std::isxdigit(static_cast<unsigned char>(rest_[++i]))) return false;
        value += '?';
        return true;
    }

    bool number(Json& value) {
        value.kind = Json::Kind::number;
        size_t at = rest_.starts_with('-') ? 1 : 0;
        auto digits = [&] {
            size_t first = at;
            while (at < rest_.size() && std::isdigit(static_cast<unsigned char>(rest_[at]))) ++at;
            return at > first;
        };
        if (!digits()) return false;
        if (at < rest_.size() && rest_[at] == '.' && (++at, !digits())) return false;
        if (at < rest_.size() && (rest_[at] == 'e' || rest_[at] == 'E')) {
            ++at;
            if (at < rest_.size() && (rest_[at] == '+' || rest_[at] == '-')) ++at;
            if (!digits()) return false;
        }
        rest_.remove_prefix(at);
        return true;
    }

    bool word(std::string_view which) {
        if (!rest_.starts_with(which)) return false;
        rest_.remove_prefix(which.size());
        return true;
    }

    bool take(char which) {
        skip_space();
        if (!rest_.starts_with(which)) return false;
        rest_.remove_prefix(1);
        return true;
    }

    void skip_space() {
        while (!rest_.empty() && std::string_view(" \t\r\n").contains(rest_[0]))
            rest_.remove_prefix(1);
    }

    std::string_view rest_;
};

}  // namespace

std::optional<Json> parse_json(std::string_view text) {
    Json value;
    Reader reader(text);
    if (!reader.any(value) || !reader.at_end()) return std::nullopt;
    return value;
}

std::optional<std::map<std::string, std::string>> parse_json_object(std::string_view text) {
    auto object = parse_json(text);
    if (!object || object->kind != Json::Kind::object) return std::nullopt;
    std::map<std::string, std::string> members;
    for (auto& [name, value] : object->members) members.emplace(name, std::move(value.text));
    return members;
}

}  // namespace proxify::test
