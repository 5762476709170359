-- SPDX-License-Identifier: Apache-2.0
--
-- upper: writes everything in capitals, both ways.
--
--     filters = [{ type = "lua", script = "upper.lua" }]
--
-- A function is called with each chunk of its direction, and with what is known of the session. The
-- string that it gives back goes on instead of the chunk.

local element = {}

function element.to_target(chunk, session)
    return chunk:upper()
end

function element.to_client(chunk, session)
    return chunk:upper()
end

return element
