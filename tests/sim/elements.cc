// SPDX-License-Identifier: Apache-2.0
#include "sim/elements.h"

#include <algorithm>

namespace proxify::test {

using Type = config::ElementType;

namespace {

std::string replaced(const std::string& in, const std::string& find, const std::string& with) {
    std::string out;
    for (size_t at = 0;;) {
        const size_t found = in.find(find, at);
        out.append(in, at, found == std::string::npos ? found : found - at);
        if (found == std::string::npos) return out;
        out += with;
        at = found + find.size();
    }
}

/// The elements that look at a direction, in the order in which they do.
std::vector<const config::Element*> elements_of(const config::Service& service,
                                                Direction direction) {
    std::vector<const config::Element*> elements;
    for (const auto& element : service.filters)
        if (element.direction.value_or(direction) == direction) elements.push_back(&element);
    if (direction == Direction::to_client) std::ranges::reverse(elements);
    return elements;
}

bool lets_go_soon(const config::Element& element) {
    return element.type == Type::replace && element.hold <= soon;
}

}  // namespace

Made made_of(std::string stream, const config::Service& service, Direction direction) {
    Made made{std::move(stream)};
    for (const auto* element : elements_of(service, direction)) {
        if (element->type == Type::replace)
            made.bytes = replaced(made.bytes, element->find, element->with);
        if (element->type == Type::limit_bytes && made.bytes.size() > element->bytes) {
            made.bytes.resize(element->bytes);
            made.is_cut = true;
        }
        // The pattern is the letters themselves; the last of them does not go on.
        if (element->type == Type::match)
            if (const size_t found = made.bytes.find(element->pattern->text());
                found != std::string::npos) {
                made.bytes.resize(found + element->pattern->text().size() - 1);
                made.is_cut = true;
            }
    }
    return made;
}

bool may_be_made_of(const std::string& stream, const std::string& sent, bool is_all,
                    const config::Service& service, Direction direction) {
    const std::string whole = made_of(stream, service, direction).bytes;
    const auto elements = elements_of(service, direction);
    auto hasty =
        std::ranges::find_if(elements, [](const auto* each) { return lets_go_soon(*each); });
    if (hasty == elements.end()) return is_all ? sent == whole : whole.starts_with(sent);

    // What was let go may have been the beginning of something after all: replaced now, it is as if
    // it had not been. The last letters of `sent` may be such a beginning still.
    std::string known = made_of(sent, service, direction).bytes;
    if (is_all) return known == whole;
    const std::string& find = (*hasty)->find;
    for (size_t count = find.size() - 1; count > 0; --count)
        if (known.ends_with(find.substr(0, count))) {
            known.resize(known.size() - count);
            break;
        }
    return whole.starts_with(known);
}

bool may_wait(const config::Service& service) {
    return std::ranges::any_of(service.filters,
                               [](const auto& element) { return element.type == Type::rate; });
}

}  // namespace proxify::test
