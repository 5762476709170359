// SPDX-License-Identifier: Apache-2.0
// Beside words and flags, a shell is told where more is to be had: services, targets and sessions
// of the proxify that runs, by asking it.
#include "cli/completion.h"

#include <algorithm>
#include <ostream>
#include <vector>

#include "base/format.h"

namespace proxify::cli {

namespace {

constexpr std::string_view services_source =
    "proxify services 2>/dev/null | awk '!NF { exit } NR > 1 { print $1 }'";

/// Prints what the first argument of a command can be; empty when nobody knows.
std::string_view source_of(const CommandInfo& command) {
    if (command.arguments.starts_with("[SERVICE/]TARGET"))
        return "proxify targets 2>/dev/null | awk 'NR > 1 { print $1 \"/\" $2 }'";
    if (command.arguments == "SESSION")
        return "proxify sessions 2>/dev/null | awk '$1 ~ /^[0-9]+$/ { print $1 }'";
    if (command.arguments.starts_with("[rules")) return "printf '%s\\n' rules";
    if (command.arguments == "ca|leaf") return "printf '%s\\n' ca leaf";
    if (command.arguments == "SHELL") return "printf '%s\\n' bash zsh fish";
    return {};
}

bool takes_value(const FlagInfo& flag) {
    return !flag.value.empty() && !flag.value.starts_with('[');
}
bool takes_file(const FlagInfo& flag) {
    return flag.value == "FILE" || flag.value == "PATH";
}

/// "--port", or "-b" where there is no other.
std::string written(const FlagInfo& flag) {
    return flag.name.size() > 1 ? format("--{}", flag.name) : format("-{}", flag.letter);
}

/// Those that mean something to a command, and help.
std::vector<const FlagInfo*> flags_of(const CommandInfo& command) {
    std::vector<const FlagInfo*> out;
    for (const auto& flag : all_flags())
        if (flag.name == "help" ||
            std::ranges::find(command.flags, flag.name) != command.flags.end())
            out.push_back(&flag);
    return out;
}

/// Each with what `text` makes of it, and `between`.
template <class Range, class Text>
std::string joined(const Range& range, std::string_view between, Text text) {
    std::string out;
    for (const auto& one : range) {
        const std::string next(text(one));
        if (!next.empty()) out += format("{}{}", out.empty() ? "" : between, next);
    }
    return out;
}

std::string command_words(std::string_view between) {
    return joined(all_commands(), between, [](const CommandInfo& one) { return one.word; });
}

/// The flags that `fits`, as the patterns of a case in bash.
template <class Fits>
std::string pattern_of(Fits fits) {
    return joined(all_flags(), "|", [&](const FlagInfo& flag) {
        if (!fits(flag)) return std::string();
        return (flag.letter && flag.name.size() > 1 ? format("-{}|", flag.letter) : "") +
               written(flag);
    });
}

std::string in_quotes(std::string_view text) {
    std::string out = "'";
    for (char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

// ---- bash

std::string bash() {
    std::string out = R"(# bash completion for proxify; made by `proxify completion bash`
_proxify() {
    # Not COMP_WORDS: bash breaks words at the colons of addresses.
    local line=${COMP_LINE:0:COMP_POINT} words word= flag= command= from= flags= i
    local arguments=0
    read -ra words <<<"$line"
    if [[ $line != *[[:space:]] ]]; then
        word=${words[-1]}
        unset 'words[-1]'
    fi
    for ((i = 1; i < ${#words[@]}; i++)); do
        if [[ $flag ]]; then flag=; continue; fi
        case ${words[i]} in
)";
    out += format("            {}) flag=${{words[i]}} ;;\n", pattern_of(takes_value));
    out += R"(            -*) ;;
            *) if [[ $command ]]; then ((++arguments)); else command=${words[i]}; fi ;;
        esac
    done
    if [[ $word == --*=* ]]; then
        flag=${word%%=*}
        word=${word#*=}
    fi

    COMPREPLY=()
    case $flag in
        '')
            case $command in
)";
    for (const auto& command : all_commands()) {
        out +=
            format("                {}) flags=\"{}\"", command.word.empty() ? "''" : command.word,
                   joined(flags_of(command), " ", [](const auto* flag) { return written(*flag); }));
        if (command.word.empty()) out += format(" from=\"{}\"", command_words(" "));
        if (auto source = source_of(command); !source.empty())
            out += format("; ((arguments == 0)) && [[ $word != -* ]] && from=$({})", source);
        out += " ;;\n";
    }
    out += "            esac\n            [[ $word == -* ]] && from=$flags\n            ;;\n";
    out += format("        {}) mapfile -t COMPREPLY < <(compgen -f -- \"$word\"); return ;;\n",
                  pattern_of(takes_file));
    out += format("        --service) from=$({}) ;;\n", services_source);
    out += R"(    esac
    # Up to its last colon bash has the word already.
    local had=${word%"${word##*:}"} one
    [[ $COMP_WORDBREAKS == *:* ]] || had=
    while read -r one; do
        [[ $one && $one == "$word"* ]] && COMPREPLY+=("${one#"$had"}")
    done <<<"${from// /$'\n'}"
    return 0
}
complete -F _proxify proxify
)";
    return out;
}

// ---- zsh

/// In a description zsh gives colons and brackets a meaning.
std::string for_zsh(std::string_view text) {
    std::string out;
    for (char c : text) {
        if (c == ':' || c == '[' || c == ']' || c == '\\') out += '\\';
        out += c;
    }
    return out;
}

/// As _arguments takes it: '--port=[what it is]:PORT: '.
std::string zsh_flag(const FlagInfo& flag, std::string_view name) {
    std::string spec(name);
    if (!flag.value.empty()) spec += name.starts_with("--") ? (takes_value(flag) ? "=" : "=-") : "";
    spec += format("[{}]", for_zsh(flag.help));
    if (takes_file(flag))
        spec += ":file:_files";
    else if (flag.name == "service")
        spec += format(":service:($({}))", services_source);
    else if (!flag.value.empty())
        spec += format("{}{}: ", takes_value(flag) ? ":" : "::", for_zsh(flag.value));
    return in_quotes(spec);
}

std::string zsh() {
    std::string out =
        "#compdef proxify\n"
        "# zsh completion for proxify; made by `proxify completion zsh`\n"
        "_proxify() {\n"
        "    local -a commands before flags found\n"
        "    commands=(\n";
    for (const auto& command : all_commands())
        if (!command.word.empty())
            out += format("        {}\n",
                          in_quotes(format("{}:{}", command.word, for_zsh(command.help))));
    out += format(
        "    )\n"
        "    before=(${{words[2,CURRENT-1]}})\n"
        "    local command=${{before[(r)({})]}} state state_descr line\n"
        "    case $command in\n",
        command_words("|"));
    for (const auto& command : all_commands()) {
        out += format("        {})\n            flags=(\n",
                      command.word.empty() ? "''" : command.word);
        for (const auto* flag : flags_of(command)) {
            out += format("                {}\n", zsh_flag(*flag, written(*flag)));
            if (flag->letter && flag->name.size() > 1)
                out += format("                {}\n", zsh_flag(*flag, format("-{}", flag->letter)));
        }
        out += "            )\n";
        if (auto source = source_of(command); !source.empty())
            out += format("            found=(${{(f)\"$({})\"}})\n", source);
        out += "            ;;\n";
    }
    return out + R"(    esac
    _arguments -s $flags '1: :->command' '2: :->argument' '*: :'
    case $state in
        command) _describe -t commands command commands ;;
        argument) compadd -a found ;;
    esac
}
if [[ $funcstack[1] == _proxify ]]; then _proxify "$@"; else compdef _proxify proxify; fi
)";
}

// ---- fish

std::string fish() {
    std::string out =
        "# fish completion for proxify; made by `proxify completion fish`\n"
        "complete -c proxify -f\n";
    const auto none = format("not __fish_seen_subcommand_from {}", command_words(" "));
    for (const auto& command : all_commands()) {
        if (command.word.empty()) continue;
        out += format("complete -c proxify -n {} -a {} -d {}\n", in_quotes(none), command.word,
                      in_quotes(command.help));
        if (auto source = source_of(command); !source.empty())
            out += format("complete -c proxify -n '__fish_seen_subcommand_from {}' -a {}\n",
                          command.word, in_quotes(format("({})", source)));
    }
    for (const auto& flag : all_flags()) {
        std::string condition;
        auto is_for = [&](const CommandInfo& command) {
            return std::ranges::find(command.flags, flag.name) != command.flags.end();
        };
        auto words = joined(all_commands(), " ", [&](const CommandInfo& command) {
            return is_for(command) ? command.word : std::string_view();
        });
        if (is_for(all_commands().front())) condition = none;
        if (!words.empty())
            condition +=
                format("{}__fish_seen_subcommand_from {}", condition.empty() ? "" : "; or ", words);
        out += "complete -c proxify";
        if (!condition.empty()) out += " -n " + in_quotes(condition);
        if (flag.letter) out += format(" -s {}", flag.letter);
        if (flag.name.size() > 1) out += format(" -l {}", flag.name);
        if (takes_value(flag)) out += takes_file(flag) ? " -r -F" : " -x";
        if (flag.name == "service") out += " -a " + in_quotes(format("({})", services_source));
        out += format(" -d {}\n", in_quotes(flag.help));
    }
    return out;
}

}  // namespace

Result<std::string> completion_for(const std::string& shell) {
    if (shell == "bash") return bash();
    if (shell == "zsh") return zsh();
    if (shell == "fish") return fish();
    return fail(Error::of(format("no completion for \"{}\"", shell), "say bash, zsh or fish"));
}

int run_completion(const Options& options, std::ostream& out, std::ostream& err) {
    auto script = completion_for(options.arguments[0]);
    if (!script) {
        err << script.error().text() << '\n';
        return exit_usage;
    }
    out << *script;
    return exit_done;
}

}  // namespace proxify::cli
