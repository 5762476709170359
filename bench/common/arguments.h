// SPDX-License-Identifier: Apache-2.0
// Arguments: `--name value` pairs and single words, for programs whose caller is mostly another
// program.
#pragma once

#include <charconv>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/format.h"
#include "base/result.h"

namespace proxify::bench {

/// One option a program knows. A flag takes no value.
struct Known {
    std::string_view name;
    bool is_flag = false;
};

class Arguments {
  public:
    static Result<Arguments> parse(int argc, char** argv, std::span<const Known> known) {
        Arguments arguments;
        for (int i = 1; i < argc; ++i) {
            std::string_view word = argv[i];
            if (!word.starts_with("--")) {
                arguments.words.emplace_back(word);
                continue;
            }
            auto name = word.substr(2);
            const Known* option = nullptr;
            for (const auto& candidate : known) {
                if (candidate.name == name) option = &candidate;
            }
            if (!option) return fail(Error::of(format("unknown option {}", word), "try --help"));
            if (option->is_flag) {
                arguments.values_[std::string(name)] = "yes";
            } else if (++i < argc) {
                arguments.values_[std::string(name)] = argv[i];
            } else {
                return fail(Error::of(format("{} needs a value", word)));
            }
        }
        return arguments;
    }

    bool has(const std::string& name) const { return values_.contains(name); }

    std::string text(const std::string& name, std::string otherwise = {}) const {
        auto found = values_.find(name);
        return found == values_.end() ? std::move(otherwise) : found->second;
    }

    /// Zero for what is no number: every number that matters is checked where it is used.
    double number(const std::string& name, double otherwise = 0) const {
        auto found = values_.find(name);
        return found == values_.end() ? otherwise : to_number(found->second);
    }

    std::vector<std::string> list(const std::string& name) const {
        std::vector<std::string> items;
        std::string_view rest = text_view(name);
        while (!rest.empty()) {
            auto comma = rest.find(',');
            items.emplace_back(rest.substr(0, comma));
            rest = comma == rest.npos ? std::string_view() : rest.substr(comma + 1);
        }
        return items;
    }

    std::vector<int> numbers(const std::string& name) const {
        std::vector<int> out;
        for (const auto& item : list(name)) out.push_back(static_cast<int>(to_number(item)));
        return out;
    }

    std::vector<std::string> words;

  private:
    static double to_number(std::string_view text) {
        double value = 0;
        std::from_chars(text.data(), text.data() + text.size(), value);
        return value;
    }

    std::string_view text_view(const std::string& name) const {
        auto found = values_.find(name);
        return found == values_.end() ? std::string_view() : found->second;
    }

    std::map<std::string, std::string> values_;
};

}  // namespace proxify::bench
