// SPDX-License-Identifier: Apache-2.0
// Beside words and flags, a shell is told where more is to be had: targets and sessions of the
// proxify that runs, by asking it.
#include "cli/completion.h"

#include <algorithm>
#include <ostream>

#include "base/format.h"

namespace proxify::cli {

namespace {

std::string written(const FlagInfo& flag) {
    return flag.name.size() > 1 ? format("--{}", flag.name) : format("-{}", flag.letter);
}

const FlagInfo& flag_named(std::string_view name) {
    return *std::ranges::find(all_flags(), name, &FlagInfo::name);
}

std::string words_of_commands() {
    std::string out;
    for (const auto& command : all_commands())
        if (!command.word.empty()) out += format("{}{}", out.empty() ? "" : " ", command.word);
    return out;
}

std::string flags_of(const CommandInfo& command) {
    std::string out;
    for (auto name : command.flags) out += (out.empty() ? "" : " ") + written(flag_named(name));
    return out;
}

/// What a first argument can be, as a shell finds it out.
std::string_view source_of(const CommandInfo& command) {
    if (command.arguments.starts_with("[SERVICE/]TARGET"))
        return "proxify targets 2>/dev/null | awk 'NR > 1 { print $1 \"/\" $2 }'";
    if (command.arguments == "SESSION")
        return "proxify sessions 2>/dev/null | awk 'NR > 1 { print $1 }'";
    if (command.arguments == "SHELL") return "echo bash zsh fish";
    return {};
}

std::string bash() {
    std::string out =
        "# bash completion for proxify; made by `proxify completion bash`\n"
        "_proxify() {\n"
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
        "    local command= i\n"
        "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "        case ${COMP_WORDS[i]} in\n"
        "            -p|--port|-c|--config|--socket|--service|--target|--client|--limit|"
        "--rollback-if-down) ((i++)) ;;\n"
        "            -*) ;;\n"
        "            *) command=${COMP_WORDS[i]}; break ;;\n"
        "        esac\n"
        "    done\n"
        "    case $before in\n"
        "        -c|--config|--socket) COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n"
        "        --service) COMPREPLY=($(compgen -W \"$(proxify services 2>/dev/null | "
        "awk 'NR > 1 { print $1 }')\" -- \"$word\")); return ;;\n"
        "        -p|--port|--target|--client|--limit|--rollback-if-down) return ;;\n"
        "    esac\n"
        "    local flags= words=\n"
        "    case $command in\n";
    for (const auto& command : all_commands()) {
        auto flags = flags_of(command);
        auto source = source_of(command);
        out += format("        {}) flags=\"{}{}--help\"",
                      command.word.empty() ? "''" : command.word, flags, flags.empty() ? "" : " ");
        if (command.word.empty()) out += format(" words=\"{}\"", words_of_commands());
        if (!source.empty()) out += format(" words=$({})", source);
        out += " ;;\n";
    }
    out +=
        "    esac\n"
        "    case $word in\n"
        "        -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$word\")) ;;\n"
        "        *) COMPREPLY=($(compgen -W \"$words\" -- \"$word\")) ;;\n"
        "    esac\n"
        "    # A target has colons, at which bash breaks words.\n"
        "    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "
        "\"$word\"\n"
        "    return 0\n"
        "}\n"
        "complete -F _proxify proxify\n";
    return out;
}

/// Between single quotes; the texts here have none of their own but for apostrophes.
std::string in_quotes(std::string_view text) {
    std::string out = "'";
    for (char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

std::string fish() {
    std::string out =
        "# fish completion for proxify; made by `proxify completion fish`\n"
        "complete -c proxify -f\n";
    std::string words;
    for (const auto& command : all_commands())
        if (!command.word.empty()) words += format(" {}", command.word);
    for (const auto& command : all_commands()) {
        if (command.word.empty()) continue;
        out += format("complete -c proxify -n 'not __fish_seen_subcommand_from{}' -a {} -d {}\n",
                      words, command.word, in_quotes(command.help));
        if (auto source = source_of(command); !source.empty())
            out += format("complete -c proxify -n '__fish_seen_subcommand_from {}' -a {}\n",
                          command.word, in_quotes(format("({} | string split ' ')", source)));
    }
    for (const auto& flag : all_flags()) {
        std::string where;
        bool also_alone = false;
        for (const auto& command : all_commands())
            if (std::ranges::find(command.flags, flag.name) != command.flags.end()) {
                if (command.word.empty())
                    also_alone = true;
                else
                    where += format(" {}", command.word);
            }
        std::string condition;
        if (also_alone) condition = format("not __fish_seen_subcommand_from{}", words);
        if (!where.empty())
            condition +=
                format("{}__fish_seen_subcommand_from{}", condition.empty() ? "" : "; or ", where);
        out += "complete -c proxify";
        if (!condition.empty()) out += " -n " + in_quotes(condition);
        if (flag.letter) out += format(" -s {}", flag.letter);
        if (flag.name.size() > 1) out += format(" -l {}", flag.name);
        if (!flag.value.empty() && !flag.value.starts_with('['))
            out += flag.value == "FILE" || flag.value == "PATH" ? " -r -F" : " -x";
        out += " -d " + in_quotes(flag.help) + "\n";
    }
    return out;
}

/// In a description zsh gives colons and brackets a meaning.
std::string for_zsh(std::string_view text) {
    std::string out;
    for (char c : text) {
        if (c == ':' || c == '[' || c == ']') out += '\\';
        out += c;
    }
    return out;
}

std::string zsh() {
    std::string out =
        "#compdef proxify\n"
        "# zsh completion for proxify; made by `proxify completion zsh`\n"
        "_proxify() {\n"
        "    local -a commands\n"
        "    commands=(\n";
    for (const auto& command : all_commands())
        if (!command.word.empty())
            out += format("        {}\n",
                          in_quotes(format("{}:{}", command.word, for_zsh(command.help))));
    out +=
        "    )\n"
        "    local command=${${words[2,CURRENT-1]:#-*}[1]}\n"
        "    case $command in\n";
    for (const auto& command : all_commands()) {
        const bool is_known_word = !command.word.empty();
        out += format("        {})\n            _arguments -s",
                      is_known_word ? std::string(command.word) : std::string("*"));
        // "*" must come last, so the entry for no command is written after the others.
        if (!is_known_word) {
            out.resize(out.rfind("        *)"));
            continue;
        }
        for (auto name : command.flags) {
            const auto& flag = flag_named(name);
            std::string spec = written(flag);
            if (!flag.value.empty() && !flag.value.starts_with('[')) spec += "=";
            spec += format("[{}]", for_zsh(flag.help));
            if (flag.value == "FILE" || flag.value == "PATH")
                spec += ":file:_files";
            else if (!flag.value.empty() && !flag.value.starts_with('['))
                spec += format(":{}: ", flag.value);
            out += " \\\n                " + in_quotes(spec);
        }
        out += " \\\n                '1: :'";
        if (auto source = source_of(command); !source.empty())
            out +=
                format(" \\\n                \"2:argument:($({}))\"",
                       source == "echo bash zsh fish" ? std::string(source) : std::string(source));
        out += "\n            ;;\n";
    }
    out += "        *)\n            _arguments -s";
    for (const auto& flag : all_flags()) {
        const auto& start = all_commands().front();
        const bool fits = std::ranges::find(start.flags, flag.name) != start.flags.end() ||
                          flag.name == "help" || flag.name == "version";
        if (!fits) continue;
        std::string spec = written(flag) + format("[{}]", for_zsh(flag.help));
        if (flag.value == "FILE" || flag.value == "PATH")
            spec += ":file:_files";
        else if (!flag.value.empty())
            spec += format(":{}: ", flag.value);
        out += " \\\n                " + in_quotes(spec);
    }
    return out +
           "\n            _describe command commands\n"
           "            ;;\n"
           "    esac\n"
           "}\n"
           "_proxify \"$@\"\n";
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
