-- Runs the operations of one batch, each of which fails for itself. All keys have the tag of KEYS[1].
--   KEYS[1]     the base key T of the tag
--   KEYS[2..]   the base keys of the queues that operations name by their number
--   ARGV[1]     the name of the process that asks, for its own wakes
--   ARGV[2]     the operations, as MessagePack: {name, queue's number, …}
--   ARGV[3..]   records of messages, which operations name by their number
-- This calls what writes nothing, to find out whether writes are taken: T:probe is never made.

local probe = redis.pcall('SETRANGE', T .. ':probe', 0, '')
local full = false
if type(probe) == 'table' and probe.err then
  if not probe.err:find('OOM', 1, true) then return probe end
  -- Clients' posts are refused now. The rest must go on: it is what makes room.
  full = true
  call('DEL', T .. ':probe')
end

local results = {}
for i, op in ipairs(cmsgpack.unpack(ARGV[2])) do
  local done, result = pcall(ops[op[1]], KEYS[op[2] + 1], op, full)
  if not done then
    if type(result) == 'table' then result = result.err or 'unknown' end
    result = {'error', tostring(result)}
  end
  results[i] = result
end
return cmsgpack.pack({present, results})
