-- SPDX-License-Identifier: Apache-2.0
--
-- redact: in what goes to the client, hides all but the last four digits of numbers that look like
-- those of cards: sixteen digits, in groups of four or in one.
--
--     filters = [{ type = "lua", script = "redact.lua", on_error = "close" }]
--
-- If it fails, the session is better ended than shown.
--
-- A number may be cut in two by the end of a chunk, so what could be the beginning of one waits for
-- the next chunk: a digit near the end and the digits, spaces and dashes behind it. finish() lets the
-- last of them go.

local card = "%f[%d]%d%d%d%d([ -]?)%d%d%d%d([ -]?)%d%d%d%d([ -]?)(%d%d%d%d)%f[%D]"
local hidden = "****%1****%2****%3%4"
local longest = 64                      -- more digits, spaces and dashes than that do not wait

local element = {}
local kept = ""
local count = 0

local function redact(text)
    local redacted, found = text:gsub(card, hidden)
    count = count + found
    return redacted
end

function element.to_client(chunk, session)
    local text = kept .. chunk
    local run = text:sub(-longest):match("%d[%d -]*$") or ""
    if #run == longest then run = "" end
    kept = run
    return redact(text:sub(1, #text - #run))
end

function element.finish(direction, session)
    if direction ~= "to_client" then return end
    local rest = redact(kept)
    if count > 0 then proxify.log(count .. " numbers were hidden") end
    return rest
end

return element
