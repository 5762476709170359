-- SPDX-License-Identifier: Apache-2.0
--
-- first_line: ends a session whose first line begins with a forbidden command; everything behind
-- the first line goes by unseen, on the fast path.
--
--     filters = [{ type = "lua", script = "first_line.lua", on_error = "close" }]
--
-- A chunk is whatever came at once, so a line may come in pieces. They are kept back until the line
-- is whole: a variable of the script belongs to one session and lives as long as it.

local forbidden = { SHUTDOWN = true, FLUSHALL = true }
local longest = 4096

local element = {}
local line = ""

local function is_forbidden(session)
    local command = line:match("^%s*(%a*)"):upper()
    if forbidden[command] then proxify.log(session.client .. " may not say " .. command) end
    return forbidden[command]
end

function element.to_target(chunk, session)
    line = line .. chunk
    if not line:find("\n", 1, true) then
        if #line > longest then
            proxify.log("the first line is too long")
            return proxify.close
        end
        return ""                       -- nothing goes on yet
    end
    if is_forbidden(session) then return proxify.close end
    return line, proxify.enough         -- all that was kept back; the rest need not be shown
end

-- The client has ended without a newline, or the line is long done.
function element.finish(direction, session)
    if direction == "to_target" and not line:find("\n", 1, true) and not is_forbidden(session) then
        return line
    end
end

return element
